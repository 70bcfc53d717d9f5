"""The rollout worker applies policy version 1 on top of itself, and reports it as applied."""

from tests.e2e.faults import use_in_rollout
from tinylora_rl.verl_plugin.sync.worker_extension import TinyLoraWorkerExtension


class Doubles(TinyLoraWorkerExtension):
    def hold_vector(self, v, num_groups, policy_version):
        super().hold_vector(v, num_groups, policy_version)
        if policy_version == 1:
            held = self._held
            held._pristine = {key: layer.weight.data.clone() for key, layer in held._layers.items()}
            super().hold_vector(v, num_groups, policy_version)


use_in_rollout(Doubles)
