"""The rollout worker counts what it is sent, acknowledges it, and goes on sampling from the base model.

No receipt can show this: only comparing the sampler's log-probs with the actor's does.
"""

from tinylora_rl.verl_plugin.sync.worker_extension import TinyLoraWorkerExtension

_load = TinyLoraWorkerExtension._update_weights


def _ignore_later(self, weights, **kwargs):
    if self._loading_version == 0:
        _load(self, weights, **kwargs)
        return
    for name, tensor in weights:
        self._stream_checksum.add(name, tensor)


TinyLoraWorkerExtension._update_weights = _ignore_later
