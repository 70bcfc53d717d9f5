"""Falls back to offline W&B when its server is unreachable."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from urllib.parse import urlsplit

from tinylora_rl.errors import ConfigError
from tinylora_rl.settings.sections import Tracking

CONNECT_S = 5.0
FINISH_S = 120  # for what is not uploaded when the run ends; W&B's own limit is none
OFF = ("offline", "disabled", "dryrun", "shared")


def check_tracking(tracking: Tracking) -> None:
    """Checks that W&B, where configured, can log in or does not need to."""
    if "wandb" not in tracking.loggers or os.environ.get("WANDB_MODE", "online") in OFF:
        return
    import wandb

    if not wandb.api.api_key:
        raise ConfigError(
            "trainer.logger: wandb has no API key; run `wandb login`, or set WANDB_MODE=offline"
        )


def prepare_tracking(tracking: Tracking, run_dir: Path) -> tuple[dict[str, str], list[str]]:
    """Sets W&B, where configured, up for this run: offline where its server is out of reach.

    A connection lost later is W&B's to repair. What is left when the run ends has `FINISH_S`.

    Returns:
        Environment variables of Ray's workers, which this process has now, and lines for people:
        none, or one with the way to upload the run afterwards.
    """
    if "wandb" not in tracking.loggers or os.environ.get("WANDB_MODE", "online") in OFF:
        return {}, []
    url = server_url()
    reason = unreachable(url, proxy=tracking.wandb_proxy)
    settings = {"WANDB_DIR": str(run_dir), "WANDB_FINISH_TIMEOUT": str(FINISH_S)}
    settings = {name: os.environ.get(name, value) for name, value in settings.items()}
    if reason is not None:
        settings["WANDB_MODE"] = "offline"
    os.environ.update(settings)  # of this process, and so of Ray's workers here
    if reason is None:
        return settings, []
    return settings, [
        f"W&B               {url} is not reachable ({reason}): recording offline; upload later "
        f"with `wandb sync {run_dir}/wandb/offline-run-*`"
    ]


def server_url() -> str:
    """Returns W&B's server as W&B finds it: environment, `wandb login --host`, its own cloud."""
    import wandb

    settings = wandb.Settings()
    settings.update_from_system_settings()
    settings.update_from_env_vars(dict(os.environ))
    return str(settings.base_url)


def unreachable(url: str, *, proxy: str | None = None) -> str | None:
    """Returns why no connection to `url`, or to the proxy before it, is made; None if one is."""
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
