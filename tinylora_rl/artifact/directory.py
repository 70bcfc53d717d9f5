"""An adapter as a directory: `adapter.safetensors` holds v and nothing else (13 numbers are 52
bytes of payload), `manifest.json` all that gives it a meaning. The directory is complete when its
manifest is there.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from tinylora_rl import __version__
from tinylora_rl.adapter import Adapter, Identity, TinyLoraConfig, inject
from tinylora_rl.artifact.atomic import replacing_directory, write_json

FORMAT = 1
MANIFEST = "manifest.json"
PAYLOAD = "adapter.safetensors"
FINGERPRINT_TOLERANCE = (
    1e-3  # of the fingerprint's norm; threads and devices differ by about 1e-6, a flipped sign by 1
)


def save(
    adapter: Adapter, directory: str | Path, provenance: Mapping[str, Any] | None = None
) -> Path:
    """`directory` holds `adapter`, atomically.

    Args:
        provenance: JSON values that tell where the adapter comes from (base model, run, metrics).

    Raises:
        ValueError: v holds a value that is not finite.
    """
    directory = Path(directory)
    v_GU = adapter.v.detach().to("cpu", torch.float32).contiguous()
    if not torch.isfinite(v_GU).all():
        raise ValueError(f"{directory}: v holds a value that is not finite; nothing was written")
    with replacing_directory(directory) as fresh:
        save_file({"v": v_GU}, str(fresh / PAYLOAD))
        manifest = {
            "format": FORMAT,
            "config": adapter.config.to_dict(),
            "num_modules": len(adapter.targets),
            "num_parameters": v_GU.numel(),
            "payload_bytes": v_GU.numel() * v_GU.element_size(),
            "payload_sha256": _payload_digest(v_GU),
            "identity": dataclasses.asdict(adapter.identity),
            "provenance": dict(provenance or {}),
            "versions": {"tinylora_rl": __version__, "torch": torch.__version__},
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        write_json(fresh / MANIFEST, manifest)
    return directory


def read_manifest(directory: str | Path) -> dict[str, Any]:
    """The manifest of the adapter in `directory`.

    Raises:
        ValueError: there is no complete adapter of a format this version reads.
    """
    path = Path(directory) / MANIFEST
    if not path.is_file():
        raise ValueError(f"{directory}: no {MANIFEST}, so no complete adapter is here")
    manifest = json.loads(path.read_text(encoding="utf-8"))
    if manifest.get("format") != FORMAT:
        raise ValueError(
            f"{directory}: format {manifest.get('format')!r}, this version reads {FORMAT}"
        )
    return manifest


def read_vector(directory: str | Path) -> torch.Tensor:
    """v (G, u), float32, of the adapter in `directory`, checked against its manifest.

    Raises:
        ValueError: see `read_manifest`; or the payload is damaged.
    """
    manifest = read_manifest(directory)
    v_GU = load_file(str(Path(directory) / PAYLOAD))["v"]
    if _payload_digest(v_GU) != manifest["payload_sha256"]:
        raise ValueError(
            f"{directory}: {PAYLOAD} does not match payload_sha256 in {MANIFEST}; take another copy"
        )
    return v_GU


def load(directory: str | Path, model: nn.Module) -> Adapter:
    """`model` carries the adapter in `directory`; v is trainable.

    Raises:
        ValueError: the adapter is incomplete or damaged, or `model` is not the base it was trained
            on; the message names the digest that differs. `model` is then unchanged.
    """
    manifest = read_manifest(directory)
    v_GU = read_vector(directory)
    adapter = inject(model, TinyLoraConfig.from_dict(manifest["config"]))
    try:
        check_identity(adapter.identity, manifest["identity"], directory)
        if v_GU.shape != adapter.v.shape:
            raise ValueError(
                f"{directory}: v is {tuple(v_GU.shape)}, the model needs {tuple(adapter.v.shape)}"
            )
    except ValueError:
        adapter.remove()
        raise
    adapter.v.data.copy_(v_GU)
    return adapter


def check_identity(here: Identity, stored: Mapping[str, Any], where: str | Path) -> None:
    """`here` is what the adapter stored in `where` was trained on.

    Raises:
        ValueError: it is not; the message names the first part that differs.
    """
    if here.base_digest != stored["base_digest"]:
        raise ValueError(
            f"{where}: base_digest differs; load the adapter onto the base model it was trained on"
        )
    if here.projection_digest != stored["projection_digest"]:
        raise ValueError(
            f"{where}: projection_digest differs; P was drawn from another seed or torch version"
        )
    difference = math.dist(here.fingerprint, stored["fingerprint"])
    if not difference <= FINGERPRINT_TOLERANCE * math.hypot(*stored["fingerprint"]):
        raise ValueError(
            f"{where}: fingerprint differs; the singular vectors here are not those of the "
            "training run"
        )


def _payload_digest(v_GU: torch.Tensor) -> str:
    return hashlib.sha256(v_GU.contiguous().numpy().tobytes()).hexdigest()
