"""The parent's side of one grading process: start it, ask it, bound the wait, end it."""

import math
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

from tinylora_rl.rewards import worker
from tinylora_rl.rewards.judges import Gold, Judged, Verdict

START_DEADLINE_S = 120.0  # importing sympy takes half a second; from a cold network disk, longer
WALL_FACTOR = 4  # an answer's deadline is in processor time, up to so many times that on the clock
_CPUCLOCK_SCHED = 2  # clock_getcpuclockid(3) of a process: (~pid << 3) | this

Cause = Literal["deadline", "memory", "crash", "garbage"]


# What an interpreter needs. Answers are a stranger's text: keys and tokens stay outside.
INHERITED = ("PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "HOME", "TMPDIR")


def _environment() -> dict[str, str]:
    return {name: os.environ[name] for name in INHERITED if name in os.environ}


class GradingError(RuntimeError):
    """Grading cannot be done at all, whatever the answer. One line: what is wrong, the mend."""


class WorkerLost(Exception):
    """The process has not answered: `cause` says why. It is of no use any more."""

    def __init__(self, cause: Cause, detail: str) -> None:
        super().__init__(detail)
        self.cause: Cause = cause


@dataclass(frozen=True, kw_only=True)
class ProcessSettings:
    memory_limit_bytes: int  # of address space
    judges_module: str


class GradingProcess:
    """A child process that grades one answer at a time.

    It is a fresh interpreter, not a fork: safe under threads, CUDA and Ray, and it loads neither
    torch nor verl. Start it from a thread that outlives it: Linux ends it with that thread.
    """

    def __init__(self, settings: ProcessSettings) -> None:
        self.num_answered = 0
        self._ready = False
        self._socket, child_end = socket.socketpair()
        with child_end:
            self._process = subprocess.Popen(
                [sys.executable, "-P", str(Path(worker.__file__))],
                stdin=child_end.fileno(),
                stdout=subprocess.DEVNULL,  # warnings about hostile answers stay out of the log;
                stderr=subprocess.DEVNULL,  # what ends the process comes as a message
                # A fixed hash seed: sympy's order of terms, and so its verdicts, can hang on it.
                env={**_environment(), "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"},
            )
        setup = {**asdict(settings), "sys_path": sys.path, "parent_pid": os.getpid()}
        self._until = time.monotonic() + START_DEADLINE_S
        self._until_cpu_s = math.inf
        try:
            self._send(setup)
        except WorkerLost:
            self.end()
            raise

    @property
    def pid(self) -> int:
        return self._process.pid

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def wait_ready(self) -> None:
        """The judges are loaded. GradingError with the reason if they cannot be. WorkerLost."""
        if self._ready:
            return
        message = self._receive()
        if "ready" not in message:
            raise GradingError(f"a grading process did not start: {message.get('detail')}")
        self._ready = True

    def request(self, response: str, gold: Gold, judges: Sequence[str], deadline_s: float) -> None:
        """Hand over an answer, for which there are `deadline_s` seconds. WorkerLost."""
        self.num_answered += 1
        self._until = time.monotonic() + WALL_FACTOR * deadline_s
        self._until_cpu_s = self._cpu_s() + deadline_s
        self._send({"response": response, "gold": asdict(gold), "judges": list(judges)})

    def verdict(self) -> Judged:
        """Return the next verdict asked for; one that has arrived counts after the deadline too.

        WorkerLost.
        """
        message = self._receive()
        if "failure" in message:
            cause: Cause = "memory" if message["failure"] == "memory" else "crash"
            raise WorkerLost(cause, str(message.get("detail")))
        said, answer = message.get("verdict"), message.get("answer")
        if said not in get_args(Verdict) or not isinstance(answer, str | None):
            raise WorkerLost("garbage", f"not a verdict: {message!r:.200}")
        return Judged(verdict=cast(Verdict, said), answer=answer)

    def kill(self) -> None:
        """The process is killed; who waits for its verdict gets WorkerLost. From any thread."""
        self._process.kill()

    def end(self) -> None:
        """The process is gone and reaped."""
        self._process.kill()
        self._process.wait()
        self._socket.close()

    def _send(self, message: dict[str, Any]) -> None:
        try:
            self._socket.settimeout(max(self._until - time.monotonic(), 1e-3))
            self._socket.sendall(worker.encode(message))
        except TimeoutError:
            raise WorkerLost("deadline", "it took no input") from None
        except OSError as error:
            raise WorkerLost("crash", self._how_it_ended(error)) from error

    def _receive(self) -> dict[str, Any]:
        try:
            length = worker.payload_length(self._read(worker.HEADER_BYTES))
            message = worker.decode(self._read(length))
        except (ValueError, RecursionError) as error:
            raise WorkerLost("garbage", f"not a frame: {error}") from error
        if not isinstance(message, dict):
            raise WorkerLost("garbage", f"not a message: {message!r:.200}")
        return message

    def _read(self, num_bytes: int) -> bytes:
        data = bytearray()
        while len(data) < num_bytes:
            remaining_s = self._remaining_s()
            try:
                self._socket.settimeout(remaining_s)
                chunk = self._socket.recv(min(num_bytes - len(data), 1 << 20))
            except (TimeoutError, BlockingIOError):
                if remaining_s > 0:  # it may have waited for a processor meanwhile: look again
                    continue
                raise WorkerLost("deadline", "no verdict in time") from None
            except OSError as error:
                raise WorkerLost("crash", self._how_it_ended(error)) from error
            if not chunk:
                raise WorkerLost("crash", self._how_it_ended("no more output"))
            data += chunk
        return bytes(data)

    def _remaining_s(self) -> float:
        """The least time in which a deadline can be reached; 0.0 when one is."""
        on_the_clock_s = self._until - time.monotonic()
        of_processor_s = self._until_cpu_s - self._cpu_s()
        remaining_s = min(on_the_clock_s, of_processor_s)
        return remaining_s if remaining_s > 1e-3 else 0.0

    def _cpu_s(self) -> float:
        """Processor time the child has used; the clock where the system does not say."""
        if sys.platform != "linux":
            return time.monotonic()
        try:
            return time.clock_gettime((~self.pid << 3) | _CPUCLOCK_SCHED)
        except OSError:  # it is gone and reaped: no time is left, and reading says so
            return math.inf

    def _how_it_ended(self, sign: object) -> str:
        try:
            code = self._process.wait(timeout=1.0)
        except subprocess.TimeoutExpired:
            return f"{sign}, still running"
        return signal.strsignal(-code) or f"signal {-code}" if code < 0 else f"exit code {code}"
