"""Counts the numbers that a run trains, and the bytes they take.

| adapter | counted from |
|---|---|
| TinyLoRA, LoRA-XS | the adapter's manifest, which states v's shape and dtype; else its metric |
| LoRA | r * (I + O) of each target, from the shapes in the base's safetensors headers |
| full | all shapes in those headers |

Bytes of LoRA and full fine-tuning are of the trained tensors in the dtype that they are trained in,
`fsdp_config.model_dtype`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from tinylora_rl.base_model import local_folder
from tinylora_rl.base_model.dims import num_stored_parameters, tensor_shapes
from tinylora_rl.methods import name_of_run

NAMES = {
    "tinylora": "TinyLoRA",
    "lora_xs": "LoRA-XS",
    "lora": "LoRA",
    "full": "full fine-tuning",
}
ITEM_BYTES = {"fp32": 4, "float32": 4, "bf16": 2, "bfloat16": 2, "fp16": 2, "float16": 2}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Size:
    """The trained numbers of a run; None where nothing at hand states them.

    Attributes:
        kind: a key of NAMES, or the name of a user's own method.
    """

    kind: str
    num_parameters: int | None
    num_bytes: int | None
    num_modules: int | None = None


def trained_kind(config: Mapping[str, Any]) -> str:
    """Returns the kind of a run's configuration. LoRA-XS is TinyLoRA with another projection."""
    name = name_of_run(config)
    is_basis = (config.get("adapter") or {}).get("projection") == "basis"
    return "lora_xs" if name == "tinylora" and is_basis else name


def size_of(
    config: Mapping[str, Any],
    manifest: Mapping[str, Any] | None = None,
    logged: float | None = None,
) -> Size:
    """Counts for a run's configuration.

    Args:
        manifest: of the run's adapter.
        logged: the run's `tinylora/num_parameters`, for a run without an adapter at hand.
    """
    kind = trained_kind(config)
    if manifest is not None:
        return Size(
            kind=kind,
            num_parameters=manifest["num_parameters"],
            num_bytes=manifest["payload_bytes"],
            num_modules=manifest["num_modules"],
        )
    adapter: Mapping[str, Any] = config.get("adapter") or {}
    if kind not in ("lora", "full"):
        count = int(logged) if logged is not None else None
        dtype = adapter.get("v_dtype", "float32")
    else:
        count = _count(kind, adapter, (config.get("base_model") or {}).get("path"))
        actor = (config.get("actor_rollout_ref") or {}).get("actor") or {}
        dtype = (actor.get("fsdp_config") or {}).get("model_dtype") or "fp32"
    item_bytes = ITEM_BYTES.get(str(dtype))
    num_bytes = count * item_bytes if count is not None and item_bytes else None
    return Size(kind=kind, num_parameters=count, num_bytes=num_bytes)


def count_text(count: int | None) -> str:
    """Formats `627,712`; `?` where the count is not known."""
    return "?" if count is None else f"{count:,}"


def bytes_text(count: int | None) -> str:
    """Formats `52 B`, `28.5 KiB`, `2.4 MiB`."""
    if count is None:
        return "?"
    size = float(count)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


def _count(kind: str, adapter: Mapping[str, Any], base: str | None) -> int | None:
    folder = local_folder(base) if base else None
    if folder is None or not folder.is_dir():
        return None
    if kind == "full":
        return num_stored_parameters(folder) or None
    targets = set(adapter.get("target_modules") or ())
    shapes = [
        shape
        for name, shape in tensor_shapes(folder)
        if name.endswith(".weight") and name.split(".")[-2] in targets and len(shape) == 2
    ]
    return int(adapter.get("r", 0)) * sum(map(sum, shapes)) if shapes else None
