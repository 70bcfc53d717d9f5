"""Implements verl's platform interface for the CPU; verl 0.9.1 ships none for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch
from verl.plugin.platform import PlatformBase, PlatformRegistry

from tinylora_rl.verl_plugin.cpu import device_module


def has_no_accelerator() -> bool:
    """Tests that none of verl's own platforms can be used, in verl's way.

    Not `torch.cuda.is_available()` alone: a CPU-only Ray actor on a GPU node sees no device. Nor a
    working `nvidia-smi` alone: a CPU build of torch has no use for the GPU it reports.
    """
    cpu_build = torch.version.cuda is None and torch.version.hip is None
    names = set(PlatformRegistry.registered_names()) - {"cpu"}
    others = [PlatformRegistry.get(name)() for name in names]
    return not any(
        platform.is_platform_available(use_smi_check=True)
        for platform in others
        if not (cpu_build and platform.device_name == "cuda")
    )


class CpuPlatform(PlatformBase):
    """Answers verl with gloo, shared memory, and Ray's "GPU" as the name of a logical slot."""

    # Upstream asks its platform in every process, wherever it would otherwise name CUDA.
    # We answer with torch's CPU; synchronisation, profiling and memory settings do nothing.

    @property
    def device_name(self) -> str:
        return "cpu"

    @property
    def vendor_name(self) -> str:
        return "cpu"

    @property
    def device_module(self) -> ModuleType:
        return device_module

    def is_available(self) -> bool:
        return True

    def is_platform_available(self, use_smi_check: bool = False) -> bool:
        del use_smi_check
        return has_no_accelerator()

    def current_device(self) -> torch.device:  # type: ignore[override]
        """Returns a device, not an index: verl passes it to `Tensor.to`."""
        return torch.device("cpu")

    def device_count(self) -> int:
        return 1

    def set_device(self, device_index: int) -> None:
        del device_index

    def synchronize(self, device_index: int | None = None) -> None:
        del device_index

    def manual_seed(self, seed: int) -> None:
        torch.manual_seed(seed)

    def manual_seed_all(self, seed: int) -> None:
        torch.manual_seed(seed)

    def set_allocator_settings(self, settings: str) -> None:
        del settings

    def empty_cache(self) -> None:
        return None

    def get_device_capability(self, device_index: int = 0) -> tuple[int | None, int | None]:
        del device_index
        return None, None

    def communication_backend_name(self) -> str:
        return "gloo"

    def visible_devices_envvar(self) -> str:
        return "CUDA_VISIBLE_DEVICES"  # what Ray sets for the resource below

    def ray_resource_name(self) -> str:
        return "GPU"  # the only name that verl's resource checks count; the slots are logical

    def ray_noset_envvars(self) -> list[str]:
        return ["RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES"]

    def is_ipc_supported(self) -> bool:
        return False

    @contextmanager
    def nvtx_range(self, msg: str) -> Iterator[None]:
        del msg
        yield

    def profiler_start(self) -> None:
        return None

    def profiler_stop(self) -> None:
        return None

    def cudart(self) -> Any:
        return None
