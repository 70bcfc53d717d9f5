"""The rollout worker of policy version 1 is gone after its sync; one that knows nothing answers."""

from tests.integration.faults import use_in_rollout
from tinylora_rl.verl_plugin.sync.worker_extension import VerlWorkerExtension


class Restarts(VerlWorkerExtension):
    def policy_receipt(self, measure=True):
        receipt = super().policy_receipt(measure)
        if receipt["policy_version"] == 1:
            self._policy, self._receipt = None, None  # from the next question on
        return receipt


use_in_rollout(Restarts)
