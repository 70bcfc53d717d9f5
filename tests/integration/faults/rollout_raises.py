"""Loaded through verl's own `model.external_lib`: the rollout worker dies on policy version 1."""

from tests.integration.faults import use_in_rollout
from tinylora_rl.verl_plugin.sync.worker_extension import VerlWorkerExtension


class Raises(VerlWorkerExtension):
    def _take_adapted(self, weights, is_last):
        if self._loading_version == 1:
            raise RuntimeError("injected: the rollout worker cannot load this")
        super()._take_adapted(weights, is_last)


use_in_rollout(Raises)
