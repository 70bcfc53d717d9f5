"""Bounds every wait for a rollout, and refuses to train on one with failed samples.

Upstream: verl 0.9.1, trainer/ppo/v1/replay_buffer.py. `ReplayBuffer.sample` polls without limit,
and a group some of whose samples were lost is trained on as it is. Remove when it does neither.
"""

from __future__ import annotations

import time
from typing import Any

from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer

from tinylora_rl.runs.progress import ProgressFile


class RolloutError(RuntimeError):
    """A rollout failed, or no prompt of it was finished in time."""


class BoundedBuffer(ReplayBuffer):
    """Mixed into one of verl's buffers."""

    deadline_s: float  # within which one more prompt must be finished while the trainer waits
    progress: ProgressFile  # of the finished prompts
    _latest = (-1, 0.0)  # number of finished prompts, and since when

    # Upstream calls it once per step ("train"), and once per validation batch ("val").
    # We start the clock and the report anew.
    def sample(self, global_steps: int, partition_id: str, batch_size: int) -> Any:
        self._latest = (-1, 0.0)
        self.progress.begin("validation" if partition_id == "val" else "rollout", batch_size)
        return super().sample(global_steps, partition_id, batch_size)

    # Upstream calls it at the beginning of every poll, to read the prompts' states.
    # We raise where a prompt failed; upstream would train on what is left of its group.
    def _sync_metadata_from_transfer_queue(self) -> None:
        super()._sync_metadata_from_transfer_queue()
        if num_failed := sum(map(len, self.failure_keys.values())):
            raise RolloutError(
                f"{num_failed} prompts of this rollout failed, and nothing was trained on the "
                "others; why is above in the log, after 'Error in _run_prompt'"
            )

    # Upstream calls it between two polls, to sleep.
    # We report the finished prompts, and raise where none was added within `deadline_s`.
    def _wait_for_next_poll(self, partition_id: str, last_debug_time: float) -> float:
        self.progress.advance_to(len(self.finished_keys[partition_id]))
        num_finished = sum(map(len, self.finished_keys.values()))
        now_s = time.monotonic()
        if num_finished != self._latest[0]:
            self._latest = (num_finished, now_s)
        elif now_s - self._latest[1] > self.deadline_s:
            num_waiting = sum(map(len, (*self.pending_keys.values(), *self.running_keys.values())))
            raise RolloutError(
                f"no prompt was finished within run.rollout_deadline_s={self.deadline_s:g}, and "
                f"{num_waiting} are waited for; raise it if a response may take longer"
            )
        return super()._wait_for_next_poll(partition_id, last_debug_time)


def bounded(buffer: ReplayBuffer, deadline_s: float, progress: ProgressFile) -> ReplayBuffer:
    """Changes `buffer`, one of verl's, into one whose waits end."""
    kind = type(buffer)
    buffer.__class__ = type(f"Bounded{kind.__name__}", (BoundedBuffer, kind), {})
    buffer.deadline_s = deadline_s  # type: ignore[attr-defined]
    buffer.progress = progress  # type: ignore[attr-defined]
    return buffer
