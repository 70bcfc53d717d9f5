"""Writes an adapter: `adapter.safetensors` holds v and nothing else (13 numbers are 52 bytes of
payload), `manifest.json` all that gives it a meaning. The directory is complete when its manifest
is there.

Legend: G groups, U numbers per group.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from tinylora_rl import __version__
from tinylora_rl.adapter import Adapter
from tinylora_rl.artifact.files import ITEM_BYTES, PAYLOAD, encode
from tinylora_rl.artifact.manifest import FORMAT, MANIFEST, render_manifest
from tinylora_rl.artifact.provenance import Provenance
from tinylora_rl.atomic import replacing_directory


def save(
    adapter: Adapter,
    directory: str | Path,
    provenance: Provenance | Mapping[str, Any] | None = None,
    *,
    payload_dtype: str = "float32",
) -> Path:
    """Writes `adapter` to `directory`, atomically.

    Args:
        payload_dtype: float32, or bfloat16 or float16 for half the bytes: then what is loaded, and
            so what is evaluated, is v rounded to it.

    Raises:
        ValueError: v holds a value that is not finite, or that `payload_dtype` cannot hold; or a
            field of the provenance is unknown or of the wrong type. Nothing was written then.
    """
    directory = Path(directory)
    if not isinstance(provenance, Provenance):
        provenance = Provenance.from_mapping(provenance or {})
    v_GU = _rounded(adapter.v.detach(), payload_dtype, directory)
    numbers = v_GU.view(torch.uint8).numpy().tobytes()
    file = encode(numbers, payload_dtype, v_GU.shape)
    manifest = render_manifest(
        {
            "format": FORMAT,
            "config": adapter.config.to_dict(),
            "num_modules": len(adapter.targets),
            "num_parameters": v_GU.numel(),
            "payload_dtype": payload_dtype,
            "payload_shape": list(v_GU.shape),
            "payload_bytes": len(numbers),
            "payload_sha256": hashlib.sha256(file).hexdigest(),
            "base_dtype": adapter.base_dtype,
            "identity": dataclasses.asdict(adapter.identity),
            "provenance": provenance.to_dict(),
            "versions": {"tinylora_rl": __version__, "torch": torch.__version__},
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
        }
    )
    with replacing_directory(directory) as fresh:
        (fresh / PAYLOAD).write_bytes(file)
        (fresh / MANIFEST).write_bytes(manifest)
    return directory


def _rounded(v_GU: torch.Tensor, payload_dtype: str, directory: Path) -> torch.Tensor:
    if payload_dtype not in ITEM_BYTES:
        raise ValueError(f"payload_dtype={payload_dtype!r}: choose from {', '.join(ITEM_BYTES)}")
    if not torch.isfinite(v_GU).all():
        raise ValueError(f"{directory}: v holds a value that is not finite; nothing was written")
    rounded_GU = v_GU.to("cpu", getattr(torch, payload_dtype)).contiguous()
    if not torch.isfinite(rounded_GU).all():
        raise ValueError(
            f"payload_dtype={payload_dtype}: cannot hold |v| up to {float(v_GU.abs().max()):.6g}; "
            "use float32"
        )
    return rounded_GU
