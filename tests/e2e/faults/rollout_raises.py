"""Loaded through verl's own `model.external_lib`: the rollout worker dies on policy version 1."""

from tinylora_rl.verl_plugin.sync.worker_extension import TinyLoraWorkerExtension

_load = TinyLoraWorkerExtension._update_weights


def _raise_later(self, weights, **kwargs):
    if self._loading_version == 1:
        raise RuntimeError("injected: the rollout worker cannot load this")
    _load(self, weights, **kwargs)


TinyLoraWorkerExtension._update_weights = _raise_later
