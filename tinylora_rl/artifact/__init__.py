"""One adapter on disk: opened and verified once, injected, merged, exported, saved.

Evaluate or serve a trained adapter elsewhere:

    stored = artifact.open("runs/gsm8k_qwen7b_u13/2026-02-10_12-00-00")   # or its adapter/
    stored.export_peft_lora("out", model="Qwen/Qwen2.5-7B-Instruct")       # for PEFT and vLLM

Train on from it, and save:

    model = AutoModelForCausalLM.from_pretrained(BASE, dtype=stored.base_dtype)
    adapter = stored.inject(model)                                         # adapter.v is trainable
    artifact.save(adapter, "further", {"base_model": BASE})

Names are found when first used: reading a manifest loads no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tinylora_rl.artifact.errors import ArtifactError
    from tinylora_rl.artifact.hub import push, stage
    from tinylora_rl.artifact.manifest import MANIFEST, read_manifest
    from tinylora_rl.artifact.merged import export_merged
    from tinylora_rl.artifact.naming import NAME, NAME_RULE, adapter_dir
    from tinylora_rl.artifact.peft_lora import export_peft_lora
    from tinylora_rl.artifact.peft_tinylora import export_peft_tinylora, import_peft_tinylora
    from tinylora_rl.artifact.provenance import Provenance
    from tinylora_rl.artifact.saving import save
    from tinylora_rl.artifact.stored import (
        StoredAdapter,
        adapted,
        load,
        load_update,
        open,
        read_vector,
    )

_HOMES = {
    "MANIFEST": "manifest",
    "NAME": "naming",
    "NAME_RULE": "naming",
    "ArtifactError": "errors",
    "StoredAdapter": "stored",
    "adapter_dir": "naming",
    "open": "stored",
    "Provenance": "provenance",
    "adapted": "stored",
    "export_merged": "merged",
    "export_peft_lora": "peft_lora",
    "export_peft_tinylora": "peft_tinylora",
    "import_peft_tinylora": "peft_tinylora",
    "load": "stored",
    "load_update": "stored",
    "push": "hub",
    "read_manifest": "manifest",
    "read_vector": "stored",
    "save": "saving",
    "stage": "hub",
}

__all__ = [
    "MANIFEST",
    "NAME",
    "NAME_RULE",
    "ArtifactError",
    "Provenance",
    "StoredAdapter",
    "adapted",
    "adapter_dir",
    "export_merged",
    "export_peft_lora",
    "export_peft_tinylora",
    "import_peft_tinylora",
    "load",
    "load_update",
    "open",
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
