"""The rollout worker counts and acknowledges what it is sent, and goes on sampling from the base.

Its weights would give it away at once (adapter.witness), and so would the canary; both are blinded
here, to show what is left of a run that nobody watches.
"""

from tests.integration.faults import use_in_rollout
from tinylora_rl.verl_plugin.sync.verify import Proof
from tinylora_rl.verl_plugin.sync.worker_extension import TinyLoraWorkerExtension


class Ignores(TinyLoraWorkerExtension):
    def _take_adapted(self, weights, is_last):
        for name, tensor in weights:
            self._stream_checksum.add(name, tensor)


use_in_rollout(Ignores)
Proof.check = lambda proof, receipts, v_GU: {}
