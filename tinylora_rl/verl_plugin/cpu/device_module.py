"""Implements the part of torch.cuda's interface that verl calls, for the CPU.

verl asks its platform for a `torch.<device>` module and calls these on it. `torch.cpu` has a few
of them; memory figures come from the operating system, and the generator is torch's default one.
"""

from __future__ import annotations

import psutil
import torch


def is_available() -> bool:
    """Returns False: there is no accelerator to synchronise with or to seed."""
    return False


def device_count() -> int:
    return 0


def current_device() -> torch.device:
    return torch.device("cpu")


def get_device_name(device: object = None) -> str:
    """Returns a name for which verl's FLOPs counter knows no rate."""
    del device
    return "CPU"


def set_device(device: object) -> None:
    del device


def synchronize(device: object = None) -> None:
    del device


def empty_cache() -> None:
    """Does nothing: the operating system's allocator keeps no cache of ours."""


def ipc_collect() -> None:
    """Does nothing: weights travel through shared memory."""


def mem_get_info(device: object = None) -> tuple[int, int]:
    """Returns (free, total) bytes of the machine."""
    del device
    memory = psutil.virtual_memory()
    return memory.available, memory.total


def memory_allocated(device: object = None) -> int:
    """Returns the resident bytes of this process."""
    del device
    return psutil.Process().memory_info().rss


max_memory_allocated = memory_reserved = max_memory_reserved = memory_allocated


def reset_peak_memory_stats(device: object = None) -> None:
    del device


def set_per_process_memory_fraction(fraction: float, device: object = None) -> None:
    del fraction, device


def get_rng_state(device: object = None) -> torch.Tensor:
    """Returns the state of torch's default generator, uint8."""
    del device
    return torch.get_rng_state()


def set_rng_state(state: torch.Tensor, device: object = None) -> None:
    del device
    torch.set_rng_state(state)


def manual_seed(seed: int) -> None:
    torch.manual_seed(seed)


manual_seed_all = manual_seed
