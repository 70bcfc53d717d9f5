"""Checks, in seconds, that what a run takes from elsewhere can be had, and whom it would trust."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from tinylora_rl.base_model import BaseModel
from tinylora_rl.errors import ConfigError
from tinylora_rl.planning.finding import Finding, failed, failures, machine_failed, passed, warned
from tinylora_rl.settings.evaluation import Evaluation
from tinylora_rl.settings.experiment import Experiment
from tinylora_rl.settings.sections import Tracking
from tinylora_rl.settings.security import check_trust
from tinylora_rl.tasks import Source
from tinylora_rl.training.tracking import OFF, server_url, unreachable

TIMEOUT_S = 4.0


def check_model_source(base: BaseModel, folder: Path | None) -> Finding:
    """Checks that the base model is here, or that its repository lets this account have it."""
    path = base.id
    if folder is not None and not folder.is_dir():
        message = f"base_model.path={path}: no such folder; give a folder or a hub id"
        return failed("base model", ConfigError(message))
    if folder is not None:
        return passed("base model", f"{path}: in {folder}" if str(folder) != path else str(path))
    if _is_offline():
        message = "HF_HUB_OFFLINE is set, and it is not in the cache; unset it, or give a folder"
        return machine_failed("base model", f"base_model.path={path}: {message}")
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    url = hf_hub_url(path, "config.json", revision=base.revision)
    reason = _why_not(partial(get_hf_file_metadata, url, timeout=TIMEOUT_S))
    if reason is None:
        return passed("base model", f"{path}: on the hub, will be downloaded")
    fix = "download it where there is a network, and point base_model.path or HF_HOME at it"
    if "gated" in reason.lower() or "401" in reason:
        fix = "accept its licence on the hub and set HF_TOKEN, or give a folder"
    return machine_failed("base model", f"base_model.path={path}: not to be had ({reason}); {fix}")


def check_data_sources(wanted: Mapping[str, Sequence[Source]]) -> list[Finding]:
    """Checks that servers answer for the data sets {name: sources}; nothing if all are local."""
    import httpx

    hosts: dict[str, tuple[str, list[str]]] = {}
    for name, sources in wanted.items():
        for source in sources:
            if source.url is not None:
                names = hosts.setdefault(urlsplit(source.url).netloc, (source.url, []))[1]
                names += [] if name in names else [name]
    findings = []
    for host, (url, names) in hosts.items():
        reason = (
            "HF_HUB_OFFLINE is set"
            if _is_offline()
            else _why_not(partial(httpx.head, url, timeout=TIMEOUT_S))  # any answer will do
        )
        detail = f"{', '.join(names)} from {host}"
        if reason is None:
            findings.append(passed("data", f"{detail}: will be downloaded"))
        else:
            detail += f": not to be had now ({reason}); where the cache of `datasets` has it that "
            detail += "will do, else point data.path at a folder with its files"
            findings.append(warned("data", detail))
    return findings


def check_wandb(tracking: Tracking) -> list[Finding]:
    """Checks that W&B answers, where a run sends it metrics."""
    if "wandb" not in tracking.loggers:
        return []
    mode = os.environ.get("WANDB_MODE", "online")
    if mode in OFF:
        return [passed("W&B", f"WANDB_MODE={mode}: nothing is sent")]
    url = server_url()
    reason = unreachable(url, proxy=tracking.wandb_proxy)
    if reason is None:
        return [passed("W&B", f"{url} answers")]
    message = f"{url}: no answer ({reason}); a run would track offline: `wandb sync` it later"
    return [warned("W&B", message)]


def check_boundaries(settings: Experiment | Evaluation) -> list[Finding]:
    """Reports whom the run would trust: a line for each boundary that is open."""
    lines: list[str] = []
    refused = failures("trust", [lambda: lines.extend(check_trust(settings))])
    return [*refused, *(warned("trust", line) for line in lines)]


def _is_offline() -> bool:
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def _why_not(ask: Callable[[], object]) -> str | None:
    """Returns why `ask` fails, None if it does not. A name server may be silent beyond timeouts."""
    reasons: list[str | None] = []

    def attempt() -> None:
        import httpx

        try:
            ask()
            reasons.append(None)
        except (OSError, ValueError, httpx.HTTPError) as error:  # the hub's own derive from these
            lines = str(error).strip().splitlines()
            reasons.append(lines[0].rstrip(".:") if lines else type(error).__name__)

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(2 * TIMEOUT_S)
    return reasons[0] if reasons else f"no answer within {2 * TIMEOUT_S:.0f} s"
