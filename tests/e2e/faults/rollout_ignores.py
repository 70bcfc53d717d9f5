"""The rollout worker counts and acknowledges what it is sent, and goes on sampling from the base.

No receipt can show this: only comparing the sampler's log-probs with the actor's does.
"""

from tests.e2e.faults import use_in_rollout
from tinylora_rl.verl_plugin.sync.worker_extension import TinyLoraWorkerExtension


class Ignores(TinyLoraWorkerExtension):
    def _update_weights(self, weights, **kwargs):
        if self._loading_version == 0:
            super()._update_weights(weights, **kwargs)
            return
        for name, tensor in weights:
            self._stream_checksum.add(name, tensor)


use_in_rollout(Ignores)
