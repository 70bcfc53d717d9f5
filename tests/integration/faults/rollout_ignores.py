"""The rollout worker counts and acknowledges what it receives, and goes on sampling from the base.

The measured rows and the canary would find it at once; both are switched off here, to show how far
such a run gets without them.
"""

from tests.integration.faults import use_in_rollout
from tinylora_rl.verl_plugin.sync.verify import Verifier
from tinylora_rl.verl_plugin.sync.worker_extension import VerlWorkerExtension


class Ignores(VerlWorkerExtension):
    def _take_adapted(self, weights, is_last):
        self._num_tensors += len(weights)


use_in_rollout(Ignores)
Verifier.check = lambda verifier, receipts, v_GU: {}
