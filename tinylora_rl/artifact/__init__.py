"""One adapter on disk. Names are found when first used: reading a manifest loads no torch."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tinylora_rl.artifact.directory import adapted, load, load_update, read_vector, save
    from tinylora_rl.artifact.hub import push, stage
    from tinylora_rl.artifact.manifest import MANIFEST, read_manifest
    from tinylora_rl.artifact.merged import export_merged
    from tinylora_rl.artifact.peft_lora import export_peft_lora
    from tinylora_rl.artifact.peft_tinylora import export_peft_tinylora, import_peft_tinylora
    from tinylora_rl.artifact.provenance import Provenance

_HOMES = {
    "MANIFEST": "manifest",
    "Provenance": "provenance",
    "adapted": "directory",
    "export_merged": "merged",
    "export_peft_lora": "peft_lora",
    "export_peft_tinylora": "peft_tinylora",
    "import_peft_tinylora": "peft_tinylora",
    "load": "directory",
    "load_update": "directory",
    "push": "hub",
    "read_manifest": "manifest",
    "read_vector": "directory",
    "save": "directory",
    "stage": "hub",
}

__all__ = [
    "MANIFEST",
    "Provenance",
    "adapted",
    "export_merged",
    "export_peft_lora",
    "export_peft_tinylora",
    "import_peft_tinylora",
    "load",
    "load_update",
    "push",
    "read_manifest",
    "read_vector",
    "save",
    "stage",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
