"""The rollout worker counts and acknowledges what it is sent, and goes on sampling from the base.

Its weights would give it away at once (adapter.witness), and so would the canary; both are blinded
here, to show what is left of a run that nobody watches.
"""

from tests.integration.faults import use_in_rollout
from tinylora_rl.verl_plugin.sync.verify import Verifier
from tinylora_rl.verl_plugin.sync.worker_extension import VerlWorkerExtension


class Ignores(VerlWorkerExtension):
    def _take_adapted(self, weights, is_last):
        self._num_tensors += len(weights)


use_in_rollout(Ignores)
Verifier.check = lambda proof, receipts, v_GU: {}
