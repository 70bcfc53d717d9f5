"""How many numbers a run trains, and how many bytes they take.

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
import json
import math
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from tinylora_rl.artifact.card import is_hub_id
from tinylora_rl.artifact.manifest import MANIFEST, read_manifest

Kind = Literal["tinylora", "lora_xs", "lora", "full"]
NAMES: dict[Kind, str] = {
    "tinylora": "TinyLoRA",
    "lora_xs": "LoRA-XS",
    "lora": "LoRA",
    "full": "full fine-tuning",
}
ITEM_BYTES = {"fp32": 4, "float32": 4, "bf16": 2, "bfloat16": 2, "fp16": 2, "float16": 2}
HEADER_LIMIT_BYTES = 100 << 20  # safetensors' own


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trained:
    """What a run trains; None where nothing at hand says."""

    kind: Kind
    num_parameters: int | None
    num_bytes: int | None
    num_modules: int | None = None


def kind_of(config: Mapping[str, Any]) -> Kind:
    """What the `adapter` group of a configuration trains."""
    adapter = config.get("adapter") or {}
    if not adapter:
        return "full"
    if "u" not in adapter:
        return "lora"
    return "lora_xs" if adapter.get("projection") == "basis" else "tinylora"


def trained_numbers(
    config: Mapping[str, Any], adapter_dir: Path | None, logged: float | None = None
) -> tuple[Trained, str]:
    """The trained numbers of a run, and the digest of its adapter ("" where there is none).

    Args:
        adapter_dir: of the run; it need not exist.
        logged: the run's `tinylora/num_parameters`, for a run without an adapter at hand.

    Raises:
        ValueError: the manifest in `adapter_dir` is damaged.
    """
    kind = kind_of(config)
    if adapter_dir is not None and (adapter_dir / MANIFEST).is_file():
        manifest = read_manifest(adapter_dir)
        trained = Trained(
            kind=kind,
            num_parameters=manifest["num_parameters"],
            num_bytes=manifest["payload_bytes"],
            num_modules=manifest["num_modules"],
        )
        return trained, manifest["digest"]
    count = int(logged) if logged is not None else None
    if kind in ("lora", "full"):
        path = (config.get("base_model") or {}).get("path")
        count = _count(kind, config.get("adapter") or {}, str(path)) if path else None
    item_bytes = ITEM_BYTES.get(_dtype(kind, config))
    num_bytes = count * item_bytes if count is not None and item_bytes else None
    return Trained(kind=kind, num_parameters=count, num_bytes=num_bytes), ""


def _dtype(kind: Kind, config: Mapping[str, Any]) -> str:
    if kind in ("tinylora", "lora_xs"):
        return str((config.get("adapter") or {}).get("v_dtype", "float32"))
    node: Any = config
    for key in ("actor_rollout_ref", "actor", "fsdp_config", "model_dtype"):
        node = node.get(key) if isinstance(node, Mapping) else None
    return str(node or "fp32")


def _count(kind: Kind, adapter: Mapping[str, Any], base: str) -> int | None:
    folder = _local_folder(base)
    shapes = dict(_shapes(folder)) if folder else {}
    if not shapes:
        return None
    if kind == "full":
        return sum(math.prod(shape) for shape in shapes.values())
    targets = set(adapter.get("target_modules") or ())
    return int(adapter.get("r", 0)) * sum(
        sum(shape)
        for name, shape in shapes.items()
        if name.endswith(".weight") and name.split(".")[-2] in targets and len(shape) == 2
    )


def _local_folder(base: str) -> Path | None:
    """The model's folder, or its snapshot in the cache of the Hub; nothing is downloaded."""
    if Path(base).is_dir():
        return Path(base)
    if not is_hub_id(base):
        return None
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(base, "config.json")
    return Path(cached).parent if isinstance(cached, str) else None


def _shapes(base: Path) -> Iterator[tuple[str, list[int]]]:
    """(name, shape) of every tensor of the model in folder `base`; no tensor is read."""
    for path in sorted(base.glob("*.safetensors")):
        with path.open("rb") as file:
            (size,) = struct.unpack("<Q", file.read(8))
            if size > HEADER_LIMIT_BYTES:
                raise ValueError(f"{path}: header of {size} bytes: no safetensors file")
            header = json.loads(file.read(size))
        for name, entry in header.items():
            if name != "__metadata__":
                yield name, entry["shape"]
