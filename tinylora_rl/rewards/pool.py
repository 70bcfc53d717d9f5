"""Grades responses, and always returns: judges that may hang run in processes that are killed.

Exact judges run where they are called: they are regular expressions whose time grows linearly with
the response (tests/unit/rewards/test_hostile.py), so a round trip would only add to it. Isolated
judges, which are the symbolic ones and a user's own, go to one of `num_workers` long-lived child
processes. Each answer has a deadline, which starts when a ready process takes it; each child has a
cap on its address space. A child that is late, out of memory, dead or sends no valid message is
killed and replaced, and the verdicts that are missing are `timed_out`: never `wrong`. The cause is
in `Graded.failure` and in `GradingPool.counts`.

The deadline is in seconds of the child's processor time, so that the load of the machine does not
change a verdict. After `WALL_FACTOR` times as many seconds on the clock it is killed anyway.

Responses are read completely, however long. Answers above `MAX_ANSWER_CHARS` are compared as text
only.
"""

import logging
import os
import queue
import threading
import time
import weakref
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import get_args

from tinylora_rl.plugins import load
from tinylora_rl.rewards.judges import Gold, Judged, is_isolated, judge
from tinylora_rl.rewards.process import (
    Cause,
    GradingError,
    GradingProcess,
    WorkerLost,
)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Submission:
    """Holds a response, its gold answer and the names of the judges that are asked."""

    response: str
    gold: Gold
    judges: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Graded:
    """Holds the verdicts on a submission.

    Attributes:
        judged: by the name of the judge, every one that was asked.
        grade_s: seconds of grading, without the wait for a free process.
        failure: the cause if verdicts are `timed_out` because their process was lost.
    """

    judged: dict[str, Judged]
    grade_s: float
    failure: Cause | None = None


_COUNTED = ("answers", "starts", "recycled", *get_args(Cause))
_START_ATTEMPTS = 3


@dataclass(frozen=True, kw_only=True)
class _LaneSettings:
    deadline_s: float
    max_answers_per_process: int
    memory_limit_bytes: int


# pebble 5.2.3 gives 480 hostile answers the same verdicts (each loses 6), but it unpickles what a
# child sends, in the process with the keys; a malformed message or a killed idle child ends it.
class GradingPool:
    """Grades from any number of threads. Starts no process until an isolated judge is asked.

    Args:
        num_workers: child processes, about 60 MB each.
        deadline_s: processor seconds that one answer may take, all its isolated judges together.
        memory_limit_bytes: address space of one child.
        max_answers_per_process: a child is replaced after so many.
        plugins: files and modules with a user's own judges. A child imports those of the judges
            that it is asked for.

    Close it or drop it. The children end with it, and with the process even if that is killed.
    """

    def __init__(
        self,
        *,
        num_workers: int = 2,
        deadline_s: float = 5.0,
        memory_limit_bytes: int = 1 << 30,
        max_answers_per_process: int = 10_000,
        plugins: Sequence[str] = (),
    ) -> None:
        for key, value in (
            ("num_workers", num_workers),
            ("deadline_s", deadline_s),
            ("memory_limit_bytes", memory_limit_bytes),
            ("max_answers_per_process", max_answers_per_process),
        ):
            if not value > 0:
                raise ValueError(f"{key}={value!r}: must be above 0")
        self._settings = _LaneSettings(
            deadline_s=deadline_s,
            max_answers_per_process=max_answers_per_process,
            memory_limit_bytes=memory_limit_bytes,
        )
        load(plugins)
        self._num_workers = num_workers
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._lanes: list[_Lane] = []
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._close = weakref.finalize(self, _close, self._pid, self._jobs, self._lanes)

    def __enter__(self) -> "GradingPool":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the children. A thread that waits for a verdict gets GradingError or `timed_out`."""
        with self._lock:
            self._close()

    @property
    def counts(self) -> dict[str, int]:
        """Returns the numbers of answers, starts, recycled processes, and lost ones by cause."""
        return {key: sum(lane.counts[key] for lane in self._lanes) for key in _COUNTED}

    @property
    def pids(self) -> list[int]:
        """Returns the ids of the child processes at this moment."""
        processes = [lane.process for lane in self._lanes]
        return [process.pid for process in processes if process is not None]

    def grade(self, response: str, gold: Gold, judges: Sequence[str]) -> Graded:
        """Returns every judge's verdict. GradingError if isolated judges cannot be run at all."""
        return self.grade_many([Submission(response=response, gold=gold, judges=tuple(judges))])[0]

    def grade_many(self, submissions: Iterable[Submission]) -> list[Graded]:
        """Returns one result for each submission, in order, with all workers busy meanwhile."""
        pending: list[tuple[Submission, Graded, Future[Graded] | None]] = []
        try:
            for submission in submissions:
                isolated = [name for name in dict.fromkeys(submission.judges) if is_isolated(name)]
                # Sent off first, so that the workers are busy while this thread does the rest.
                future = self._submit(submission, isolated) if isolated else None
                pending.append((submission, _grade_here(submission), future))
            return [_join(*one) for one in pending]
        finally:
            for _, _, future in pending:
                if future is not None:
                    future.cancel()  # does nothing to a finished one

    def _submit(self, submission: Submission, judges: list[str]) -> "Future[Graded]":
        if os.getpid() != self._pid:
            raise GradingError("a grading pool was used after a fork; make one in each process")
        job = _Job(submission, judges)
        with self._lock:
            if not self._close.alive:
                raise GradingError("a closed grading pool was used; make a new one")
            if not self._lanes:
                self._lanes += [_Lane(self._jobs, self._settings) for _ in range(self._num_workers)]
            self._jobs.put(job)
        return job.future


class _Job:
    def __init__(self, submission: Submission, judges: list[str]) -> None:
        self.submission = submission
        self.judges = judges
        self.future: Future[Graded] = Future()


class _Lane:
    """Owns one thread and its child process. The thread lives as long as the pool: a child ends
    with the thread that started it, so no caller's thread may start one."""

    def __init__(self, jobs: "queue.SimpleQueue[_Job | None]", settings: _LaneSettings) -> None:
        self.counts = dict.fromkeys(_COUNTED, 0)
        self.process: GradingProcess | None = None
        self._judges: set[str] = set()  # that any job has asked for
        self._jobs = jobs
        self._settings = settings
        self.thread = threading.Thread(target=self._serve, name="grading", daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        while (job := self._jobs.get()) is not None:
            if not job.future.set_running_or_notify_cancel():
                continue
            try:
                job.future.set_result(self._grade(job))
            except Exception as error:
                self._end_process()
                job.future.set_exception(error)
            del job  # or the last response stays in memory
        self._end_process()

    def _grade(self, job: _Job) -> Graded:
        process = self._ready_process(job.judges)
        response, gold = job.submission.response, job.submission.gold
        judged: dict[str, Judged] = {}
        failure: Cause | None = None
        start = time.monotonic()
        try:
            process.request(response, gold, job.judges, self._settings.deadline_s)
            for name in job.judges:
                judged[name] = process.verdict()
        except WorkerLost as lost:
            failure = lost.cause
            self.counts[failure] += 1
            unexpected = failure in ("crash", "garbage")
            _log.log(
                logging.WARNING if unexpected else logging.INFO,
                "grading failed cause=%s (%s) judges=%s response=...%r",
                *(failure, lost, job.judges, response[-200:]),
            )
            self._end_process()
        self.counts["answers"] += 1
        for name in job.judges:
            judged.setdefault(name, Judged(verdict="timed_out", answer=None))
        return Graded(judged=judged, grade_s=time.monotonic() - start, failure=failure)

    def _ready_process(self, judges: list[str]) -> GradingProcess:
        process = self.process
        self._judges.update(judges)
        if process is not None and (
            process.num_answered >= self._settings.max_answers_per_process
            or not process.judges.issuperset(judges)
        ):
            self.counts["recycled"] += 1
            self._end_process()
        elif process is not None and not process.is_alive():  # killed while it was idle
            self.counts["crash"] += 1
            self._end_process()
        for attempt in range(1, _START_ATTEMPTS + 1):
            try:
                if self.process is None:
                    self.process = GradingProcess(
                        memory_limit_bytes=self._settings.memory_limit_bytes,
                        judges=sorted(self._judges),
                    )
                    self.counts["starts"] += 1
                self.process.wait_ready()
                return self.process
            except WorkerLost as lost:
                self._end_process()
                if attempt == _START_ATTEMPTS:
                    raise GradingError(
                        f"num_starts={attempt}: no grading process came up: {lost}"
                    ) from lost
        raise AssertionError("unreachable")

    def _end_process(self) -> None:
        process, self.process = self.process, None
        if process is not None:
            process.end()


def _grade_here(submission: Submission) -> Graded:
    start = time.perf_counter()
    judged = {
        name: judge(name, submission.response, submission.gold)
        for name in dict.fromkeys(submission.judges)
        if not is_isolated(name)
    }
    return Graded(judged=judged, grade_s=time.perf_counter() - start)


def _join(submission: Submission, here: Graded, future: "Future[Graded] | None") -> Graded:
    if future is None:
        return here
    there = future.result()
    judged = here.judged | there.judged
    return Graded(
        judged={name: judged[name] for name in submission.judges},
        grade_s=here.grade_s + there.grade_s,
        failure=there.failure,
    )


def _close(pid: int, jobs: "queue.SimpleQueue[_Job | None]", lanes: list[_Lane]) -> None:
    if os.getpid() != pid:  # at the exit of a fork: the children are not its own
        return
    while not jobs.empty():
        job = jobs.get()
        if job is not None and job.future.set_running_or_notify_cancel():
            job.future.set_exception(GradingError("the grading pool was closed"))
    for _ in lanes:
        jobs.put(None)
    for lane in lanes:
        if (process := lane.process) is not None:
            process.kill()
        if lane.thread is not threading.current_thread():  # a collector runs in any thread
            lane.thread.join()
