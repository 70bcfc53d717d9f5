"""Supervised checkpoints that can be trusted, and an end between two updates when one is asked for.

What `kept_steps` is to reinforcement learning.
"""

from __future__ import annotations

import signal
from pathlib import Path
from types import FrameType

import torch
import torch.distributed as dist
from verl.utils.checkpoint import CheckpointHandler

from tinylora_rl.runs.checkpoints import commit, discard
from tinylora_rl.runs.stopping import StopFile


class SealingHandler(CheckpointHandler):
    """verl's handler, whose checkpoints have a manifest, written last."""

    def save_checkpoint(self, step: int) -> None:
        folder = Path(self.default_local_dir) / f"global_step_{step}"
        if self.rank == 0:
            discard(folder)  # of an update that was interrupted, or is damaged
        dist.barrier()
        super().save_checkpoint(step)  # ends with a barrier: all ranks' files are there
        if self.rank == 0:
            commit(folder)
        dist.barrier()  # no rank ends, or goes on, before it counts


class StopWish:
    """Tells whether any rank was asked to end: by the run's stop file, or by SIGTERM.

    Args:
        run: the run directory.
    """

    def __init__(self, run: Path) -> None:
        self._file = StopFile(run)
        self._signalled = False
        signal.signal(signal.SIGTERM, self._on_signal)

    def agreed(self) -> bool:
        """The same answer on all ranks, which all ask at once."""
        is_wished = self._signalled or (dist.get_rank() == 0 and self._file.reason is not None)
        wishes = torch.tensor(int(is_wished))
        dist.all_reduce(wishes, op=dist.ReduceOp.MAX)
        return bool(wishes)

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        del signum, frame
        self._signalled = True
