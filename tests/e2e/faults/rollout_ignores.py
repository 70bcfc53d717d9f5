"""The rollout worker counts and acknowledges what it is sent, and goes on sampling from the base.

Its weights would give it away at once (adapter.witness), and so would the canary; both are blinded
here, to show what is left of a run that nobody watches.
"""

from tests.e2e.faults import use_in_rollout
from tinylora_rl.verl_plugin.sync.proof import Proof
from tinylora_rl.verl_plugin.sync.worker_extension import TinyLoraWorkerExtension


class Ignores(TinyLoraWorkerExtension):
    def _update_weights(self, weights, **kwargs):
        if self._loading_version == 0:
            super()._update_weights(weights, **kwargs)
            return
        for name, tensor in weights:
            self._stream_checksum.add(name, tensor)


use_in_rollout(Ignores)
Proof.check = lambda proof, receipts, v_GU: {}
