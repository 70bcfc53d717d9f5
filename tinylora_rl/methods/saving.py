"""Saving a sharded model from rank 0, complete or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

from tinylora_rl.atomic import replacing_directory


def gathered(module: torch.nn.Module) -> dict[str, Any]:
    """Returns whole weights in host memory on rank 0; all ranks take part."""
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    return get_model_state_dict(module, options=options)


@contextmanager
def rank_zero_writes(directory: Path) -> Iterator[Path | None]:
    """Yields a fresh folder that replaces `directory` at the end, and None on the other ranks."""
    if torch.distributed.get_rank() == 0:
        with replacing_directory(directory) as fresh:
            yield fresh
    else:
        yield None
    torch.distributed.barrier()
