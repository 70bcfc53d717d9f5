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
    from tinylora_rl.artifact.files import NAME, NAME_RULE, ArtifactError, adapter_dir
    from tinylora_rl.artifact.hub import push, stage
    from tinylora_rl.artifact.manifest import MANIFEST, read_manifest
    from tinylora_rl.artifact.merged import export_merged
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
    "files": "MANIFEST NAME NAME_RULE ArtifactError adapter_dir",
    "hub": "push stage",
    "manifest": "read_manifest",
    "merged": "export_merged",
    "peft_lora": "export_peft_lora",
    "peft_tinylora": "export_peft_tinylora import_peft_tinylora",
    "provenance": "Provenance",
    "saving": "save",
    "stored": "StoredAdapter adapted load load_update open read_vector",
}
__all__ = ["MANIFEST", "NAME", "NAME_RULE", "ArtifactError", "Provenance", "StoredAdapter"]
__all__ += ["adapted", "adapter_dir", "export_merged", "export_peft_lora", "export_peft_tinylora"]
__all__ += ["import_peft_tinylora", "load", "load_update", "open", "push", "read_manifest"]
__all__ += ["read_vector", "save", "stage"]


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names.split():
            return getattr(import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
