"""Weights & Biases that cannot be reached keep no run from its work."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from urllib.parse import urlsplit

from omegaconf import DictConfig, open_dict

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
    url = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")
    reason = unreachable(url)
    settings = {"WANDB_FINISH_TIMEOUT": str(FINISH_S), **os.environ}
    if reason is not None:
        settings["WANDB_MODE"] = "offline"
    with open_dict(config):
        runtime = config.ray_kwargs.ray_init.setdefault("runtime_env", {})
        for name in ("WANDB_MODE", "WANDB_FINISH_TIMEOUT"):
            if name in settings:
                os.environ[name] = settings[name]  # of this process, and so of Ray's workers here
                runtime.setdefault("env_vars", {})[name] = settings[name]  # of those elsewhere
    if reason is None:
        return []
    return [
        f"W&B               {url} is not reachable ({reason}): recording offline; upload later "
        f"with `wandb sync {run_dir}/wandb/offline-run-*`"
    ]


def unreachable(url: str) -> str | None:
    """Why no connection to `url` is made within some seconds; None where one is.

    Behind a proxy, which is the one to be reached, the proxy decides.
    """
    parts = urlsplit(url)
    proxy = os.environ.get(f"{parts.scheme}_proxy") or os.environ.get(
        f"{parts.scheme.upper()}_PROXY"
    )
    target = urlsplit(proxy) if proxy else parts
    port = target.port or (443 if target.scheme == "https" else 80)
    try:
        socket.create_connection((target.hostname or "", port), timeout=CONNECT_S).close()
    except OSError as error:
        return str(error.strerror or error)
    return None
