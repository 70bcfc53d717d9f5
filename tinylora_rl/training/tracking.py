"""Weights & Biases that cannot be reached keep no run from its work."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from urllib.parse import urlsplit

from omegaconf import DictConfig, OmegaConf

CONNECT_S = 5.0
FINISH_S = 120  # for what is not uploaded when the run ends; W&B's own limit is none
OFF = ("offline", "disabled", "dryrun", "shared")


def track_offline_if_unreachable(config: DictConfig, run_dir: Path) -> list[str]:
    """W&B, where configured, has its server or writes to the disk; left alone, it waits and fails.

    A connection lost later is W&B's to repair: it goes on trying, and writes meanwhile. What is
    left when the run ends has `FINISH_S` to be uploaded.

    Returns:
        What a person has to know: nothing, or a line with the way to upload the run afterwards.
    """
    if "wandb" not in config.trainer.logger or os.environ.get("WANDB_MODE", "online") in OFF:
        return []
    url = server_url()
    reason = unreachable(url, proxy=config.trainer.get("wandb_proxy"))
    settings = {"WANDB_DIR": str(run_dir), "WANDB_FINISH_TIMEOUT": str(FINISH_S)}
    settings = {name: os.environ.get(name, value) for name, value in settings.items()}
    if reason is not None:
        settings["WANDB_MODE"] = "offline"
    os.environ.update(settings)  # of this process, and so of Ray's workers here
    for name, value in settings.items():  # of those on other nodes
        key = f"ray_kwargs.ray_init.runtime_env.env_vars.{name}"
        OmegaConf.update(config, key, value, force_add=True)
    if reason is None:
        return []
    return [
        f"W&B               {url} is not reachable ({reason}): recording offline; upload later "
        f"with `wandb sync {run_dir}/wandb/offline-run-*`"
    ]


def server_url() -> str:
    """W&B's server, as W&B would find it: environment, `wandb login --host`, its own cloud."""
    import wandb

    settings = wandb.Settings()
    settings.update_from_system_settings()
    settings.update_from_env_vars(dict(os.environ))
    return str(settings.base_url)


def unreachable(url: str, *, proxy: str | None = None) -> str | None:
    """Why no connection to `url` is made within some seconds; None where one is.

    Behind a proxy (the one given, or else the environment's) the proxy is what must be reached.
    """
    parts = urlsplit(url)
    proxy = (
        proxy
        or os.environ.get(f"{parts.scheme}_proxy")
        or os.environ.get(f"{parts.scheme.upper()}_PROXY")
    )
    target = urlsplit(proxy) if proxy else parts
    port = target.port or (443 if target.scheme == "https" else 80)
    try:
        socket.create_connection((target.hostname or "", port), timeout=CONNECT_S).close()
    except OSError as error:
        return str(error.strerror or error)
    return None
