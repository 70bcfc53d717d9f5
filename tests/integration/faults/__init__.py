"""Faults that a run loads by verl's own `model.external_lib`."""

from tinylora_rl.verl_plugin.sync.rollout import TinyLoraHttpServer


def use_in_rollout(extension: type) -> None:
    """Gives `extension`, which vLLM finds by its name, to the servers that this process starts."""
    name = f"{extension.__module__}.{extension.__qualname__}"
    TinyLoraHttpServer._get_worker_extension_cls = lambda server: name
