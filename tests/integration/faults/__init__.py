"""Rollout workers with something wrong with them. vLLM finds its worker's extension by name."""

from tinylora_rl.verl_plugin.sync.rollout import TinyLoraHttpServer


def use_in_rollout(extension: type) -> None:
    """From here on, servers started in this process give their workers `extension`."""
    name = f"{extension.__module__}.{extension.__qualname__}"
    TinyLoraHttpServer._get_worker_extension_cls = lambda server: name
