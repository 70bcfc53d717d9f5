"""The rollout worker drops one tensor of policy version 1 and does not notice."""

from tests.e2e.faults import use_in_rollout
from tinylora_rl.verl_plugin.sync.worker_extension import TinyLoraWorkerExtension


class Lies(TinyLoraWorkerExtension):
    def _update_weights(self, weights, **kwargs):
        super()._update_weights(weights[1:] if self._loading_version == 1 else weights, **kwargs)


use_in_rollout(Lies)
