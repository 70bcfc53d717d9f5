"""Loaded through verl's own `model.external_lib`: the rollout worker dies on policy version 1."""

from tests.integration.faults import use_in_rollout
from tinylora_rl.verl_plugin.sync.worker_extension import VerlWorkerExtension


class Raises(VerlWorkerExtension):
    def load_policy(self, policy_version, *args, **kwargs):
        self._version = policy_version
        super().load_policy(policy_version, *args, **kwargs)

    def _take_adapted(self, weights, is_last):
        if self._version == 1:
            raise RuntimeError("injected: the rollout worker cannot load this")
        super()._take_adapted(weights, is_last)


use_in_rollout(Raises)
