"""The rollout worker drops one tensor of policy version 1 and does not notice."""

from tinylora_rl.verl_plugin.sync.worker_extension import TinyLoraWorkerExtension

_load = TinyLoraWorkerExtension._update_weights


def _drop_one(self, weights, **kwargs):
    _load(self, weights[1:] if self._loading_version == 1 else weights, **kwargs)


TinyLoraWorkerExtension._update_weights = _drop_one
