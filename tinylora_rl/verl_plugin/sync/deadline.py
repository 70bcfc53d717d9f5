"""A weight sender with a timeout. verl's waits forever when its receiver dies.

Upstream: verl 0.9.1, workers/rollout/vllm_rollout/bucketed_weight_transfer.py. When a rollout
worker raises while it loads a bucket, it closes its socket unanswered, and the sender stays in
`socket.recv()`. Remove when verl's sender takes a deadline.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import zmq
from verl.workers.rollout.vllm_rollout.bucketed_weight_transfer import BucketedWeightSender

POLL_MS = 100


class SyncError(RuntimeError):
    """A rollout worker does not sample from the policy that the trainer sent."""


class Deadline:
    """A point in time; `check` raises once it is past."""

    def __init__(self, seconds: float, what: str) -> None:
        self._seconds = seconds
        self.what = what
        self._end_s = time.monotonic() + seconds

    @property
    def remaining_s(self) -> float:
        return max(0.0, self._end_s - time.monotonic())

    def check(self) -> None:
        if time.monotonic() >= self._end_s:
            raise SyncError(f"{self.what} did not happen within sync.deadline_s={self._seconds:g}")


class DeadlineWeightSender(BucketedWeightSender):
    """Calls `check` ten times a second while verl's sender waits; it raises to end that."""

    socket: Any

    def __init__(self, *, check: Callable[[], None], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._check = check

    # Upstream calls it at the beginning of every send; afterwards it only uses `self.socket`.
    # We wrap that socket.
    def _init_socket(self) -> None:
        super()._init_socket()
        self.socket.setsockopt(zmq.LINGER, 0)  # an unsent message must not outlive the sender
        self.socket = _CheckedSocket(self.socket, self._check)


class _CheckedSocket:
    def __init__(self, socket: zmq.Socket, check: Callable[[], None]) -> None:
        self._socket = socket
        self._check = check

    def _wait(self, event: int) -> None:
        while not self._socket.poll(POLL_MS, event):
            self._check()

    def send_pyobj(self, value: Any) -> None:
        self._wait(zmq.POLLOUT)
        self._socket.send_pyobj(value)

    def recv(self) -> bytes:
        self._wait(zmq.POLLIN)
        return self._socket.recv()

    def close(self) -> None:
        self._socket.close()
