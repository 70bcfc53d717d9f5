"""Waits for a rollout that end; a rollout of which a part failed is not trained on.

Upstream: verl 0.9.1, trainer/ppo/v1/replay_buffer.py. `ReplayBuffer.sample` polls without limit,
and a group some of whose samples were lost is trained on as it is. Remove when it does neither.
"""

from __future__ import annotations

import time
from typing import Any

from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer


class RolloutError(RuntimeError):
    """A rollout failed, or nothing comes of it any more."""


class WatchedBuffer(ReplayBuffer):
    """Mixed into one of verl's buffers.

    Attributes:
        deadline_s: seconds within which one more prompt must be finished, while one is waited for.
    """

    deadline_s: float
    _progress = (-1, 0.0)  # how many prompts were finished, and since when

    def sample(self, *args: Any, **kwargs: Any) -> Any:
        self._progress = (-1, 0.0)
        return super().sample(*args, **kwargs)

    def _sync_metadata_from_transfer_queue(self) -> None:
        """verl's, with which every poll begins.

        Raises:
            RolloutError: a prompt failed.
        """
        super()._sync_metadata_from_transfer_queue()
        if num_failed := sum(map(len, self.failure_keys.values())):
            raise RolloutError(
                f"{num_failed} prompts of this rollout failed, and nothing was trained on the "
                "others; why is above in the log, after 'Error in _run_prompt'"
            )

    def _wait_for_next_poll(self, partition_id: str, last_debug_time: float) -> float:
        """verl's, between two polls of a wait.

        Raises:
            RolloutError: no prompt was finished within `deadline_s`.
        """
        num_finished = sum(map(len, self.finished_keys.values()))
        now_s = time.monotonic()
        if num_finished != self._progress[0]:
            self._progress = (num_finished, now_s)
        elif now_s - self._progress[1] > self.deadline_s:
            num_waiting = sum(map(len, (*self.pending_keys.values(), *self.running_keys.values())))
            raise RolloutError(
                f"no prompt was finished within run.rollout_deadline_s={self.deadline_s:g}, and "
                f"{num_waiting} are waited for; raise it if a response may take longer"
            )
        return super()._wait_for_next_poll(partition_id, last_debug_time)


def watched(buffer: ReplayBuffer, deadline_s: float) -> ReplayBuffer:
    """`buffer`, whose waits end."""
    kind = type(buffer)
    buffer.__class__ = type(f"Watched{kind.__name__}", (WatchedBuffer, kind), {})
    buffer.deadline_s = deadline_s  # type: ignore[attr-defined]
    return buffer
