"""Implements verl's platform interface for the CPU; verl 0.9.1 ships none for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import torch
from verl.plugin.platform import PlatformBase, PlatformRegistry


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


def _nothing(*args: Any, **kwargs: Any) -> None:
    """Does nothing: there is no accelerator, and no cache of an allocator of ours."""


class CpuDevice:
    """The part of torch.cuda's interface that verl calls.

    verl asks its platform for a `torch.<device>` module and calls these on it. `torch.cpu` has a
    few of them; memory figures come from the operating system, and the generator is torch's own.
    """

    set_device = synchronize = empty_cache = ipc_collect = staticmethod(_nothing)
    reset_peak_memory_stats = set_per_process_memory_fraction = staticmethod(_nothing)
    manual_seed = manual_seed_all = staticmethod(torch.manual_seed)

    @staticmethod
    def is_available() -> bool:
        return False  # no accelerator to synchronise with or to seed

    @staticmethod
    def device_count() -> int:
        return 0

    @staticmethod
    def current_device() -> torch.device:
        return torch.device("cpu")

    @staticmethod
    def get_device_name(device: object = None) -> str:
        return "CPU"  # for which verl's FLOPs counter knows no rate

    @staticmethod
    def mem_get_info(device: object = None) -> tuple[int, int]:
        memory = psutil.virtual_memory()
        return memory.available, memory.total  # bytes of the machine

    @staticmethod
    def memory_allocated(device: object = None) -> int:
        return psutil.Process().memory_info().rss  # bytes, resident

    max_memory_allocated = memory_reserved = max_memory_reserved = memory_allocated

    @staticmethod
    def get_rng_state(device: object = None) -> torch.Tensor:
        return torch.get_rng_state()

    @staticmethod
    def set_rng_state(state: torch.Tensor, device: object = None) -> None:
        torch.set_rng_state(state)


class CpuPlatform(PlatformBase):
    """Answers verl with gloo, shared memory, and Ray's "GPU" as the name of a logical slot."""

    # Upstream asks its platform in every process, wherever it would otherwise name CUDA.
    # We answer with torch's CPU; synchronisation, profiling and memory settings do nothing.

    device_name = vendor_name = "cpu"
    device_module = CpuDevice
    set_device = synchronize = set_allocator_settings = empty_cache = _nothing
    profiler_start = profiler_stop = cudart = _nothing

    def is_available(self) -> bool:
        return True

    def is_platform_available(self, use_smi_check: bool = False) -> bool:
        return has_no_accelerator()

    def current_device(self) -> torch.device:  # type: ignore[override]
        return torch.device("cpu")  # not an index: verl passes it to `Tensor.to`

    def device_count(self) -> int:
        return 1

    def manual_seed(self, seed: int) -> None:
        torch.manual_seed(seed)

    manual_seed_all = manual_seed

    def get_device_capability(self, device_index: int = 0) -> tuple[int | None, int | None]:
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
        yield
