"""A process that grades one answer after another: the parent's end of it, and the child's.

    parent -> {"parent_pid", "memory_limit_bytes", "judges", "plugins"}    -> {"ready"}
    parent -> {"response", "gold", "judges"}    -> {"verdict", "answer"} for each judge, in order

Each message is a frame: its length, four bytes, then JSON in UTF-8 that lets lone surrogates pass.
A judge that exhausts memory or raises ends the process, which is not trusted with the next answer:
`{"failure", "detail"}` is its last frame then. A process that is killed sends none.
"""

import ctypes
import json
import math
import os
import resource
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Any, Literal, cast, get_args

from tinylora_rl import plugins
from tinylora_rl.rewards.judges import Gold, Judged, Verdict, judge, judge_named

START_DEADLINE_S = 120.0  # importing sympy takes half a second; from a cold network disk, longer
WALL_FACTOR = 4  # an answer's deadline is in processor time, up to so many times that on the clock
MAX_FRAME_BYTES = 1 << 28
# The environment that an interpreter needs. Answers are a stranger's text: keys stay outside.
INHERITED = ("PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "HOME", "TMPDIR")
_CHILD = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from tinylora_rl.rewards.process import main; main()"
)
_LENGTH = struct.Struct(">I")
HEADER_BYTES = _LENGTH.size
_CPUCLOCK_SCHED = 2  # clock_getcpuclockid(3) of a process: (~pid << 3) | this
_PR_SET_PDEATHSIG = 1

Cause = Literal["deadline", "memory", "crash", "garbage"]


class GradingError(RuntimeError):
    """Reports that nothing can be graded, whatever the answer. One line: reason, fix."""


class WorkerLost(Exception):
    """Reports the `cause` for which a process has not answered. It is of no use any more."""

    def __init__(self, cause: Cause, detail: str) -> None:
        super().__init__(detail)
        self.cause: Cause = cause


def encode(message: dict[str, Any]) -> bytes:
    """Returns the frame of a message. Strings arrive code point for code point."""
    payload = json.dumps(message, ensure_ascii=False).encode("utf-8", "surrogatepass")
    return _LENGTH.pack(len(payload)) + payload


def decode(payload: bytes) -> Any:
    """Returns the message of a frame's payload; ValueError if it is not one."""
    return json.loads(payload.decode("utf-8", "surrogatepass"))


def payload_length(header: bytes) -> int:
    """Returns the number of bytes that follow a frame's header; ValueError above the limit."""
    (length,) = _LENGTH.unpack(header)
    if length > MAX_FRAME_BYTES:
        raise ValueError(f"frame_bytes={length}: above {MAX_FRAME_BYTES}")
    return int(length)


# -- the parent's end -----------------------------------------------------------------------------


class GradingProcess:
    """Starts a child process that grades one answer at a time, and bounds every wait for it.

    It is a fresh interpreter, not a fork: safe under threads, CUDA and Ray, and it loads neither
    torch nor verl. Start it from a thread that outlives it: Linux ends it with that thread.

    Args:
        memory_limit_bytes: of its address space.
        judges: the ones it may be asked for; it imports what they need before any deadline starts.
    """

    def __init__(self, *, memory_limit_bytes: int, judges: Sequence[str]) -> None:
        self.num_answered = 0
        self.judges = frozenset(judges)
        self._ready = False
        self._socket, child_end = socket.socketpair()
        with child_end:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _CHILD, json.dumps(sys.path)],
                stdin=child_end.fileno(),
                stdout=subprocess.DEVNULL,  # warnings about hostile answers stay out of the log;
                stderr=subprocess.DEVNULL,  # what ends the process comes as a message
                # A fixed hash seed: sympy's order of terms, and so its verdicts, can hang on it.
                env={
                    **{name: os.environ[name] for name in INHERITED if name in os.environ},
                    "PYTHONHASHSEED": "0",
                    "OMP_NUM_THREADS": "1",
                },
                start_new_session=True,  # what a judge starts is killed with it
            )
        self._until = time.monotonic() + START_DEADLINE_S
        self._until_cpu_s = math.inf
        try:
            self._send(
                {
                    "parent_pid": os.getpid(),
                    "memory_limit_bytes": memory_limit_bytes,
                    "judges": list(judges),
                    # of these judges alone: another plugin may import torch
                    "plugins": [p for name in judges if (p := judge_named(name).plugin)],
                }
            )
        except WorkerLost:
            self.end()
            raise

    @property
    def pid(self) -> int:
        return self._process.pid

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def wait_ready(self) -> None:
        """Waits until the judges are loaded.

        Raises:
            GradingError: they cannot be loaded.
            WorkerLost: the process ended.
        """
        if self._ready:
            return
        message = self._receive()
        if "ready" not in message:
            raise GradingError(f"a grading process did not start: {message.get('detail')}")
        self._ready = True

    def request(self, response: str, gold: Gold, judges: Sequence[str], deadline_s: float) -> None:
        """Sends an answer, for which there are `deadline_s` seconds from now on. WorkerLost."""
        self.num_answered += 1
        self._until = time.monotonic() + WALL_FACTOR * deadline_s
        self._until_cpu_s = self._cpu_s() + deadline_s
        self._send({"response": response, "gold": asdict(gold), "judges": list(judges)})

    def verdict(self) -> Judged:
        """Returns the next verdict, after the deadline too if it has arrived. WorkerLost."""
        message = self._receive()
        if "failure" in message:
            cause: Cause = "memory" if message["failure"] == "memory" else "crash"
            raise WorkerLost(cause, str(message.get("detail")))
        verdict, answer = message.get("verdict"), message.get("answer")
        if verdict not in get_args(Verdict) or not isinstance(answer, str | None):
            raise WorkerLost("garbage", f"not a verdict: {message!r:.200}")
        return Judged(verdict=cast(Verdict, verdict), answer=answer)

    def kill(self) -> None:
        """Kills the process and all that it started. May be called from any thread.

        A thread that waits for its verdict gets WorkerLost.
        """
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)  # it leads a group; itself may be dead already

    def end(self) -> None:
        """Kills and reaps the process."""
        self.kill()
        self._process.wait()
        self._socket.close()

    def _send(self, message: dict[str, Any]) -> None:
        try:
            self._socket.settimeout(max(self._until - time.monotonic(), 1e-3))
            self._socket.sendall(encode(message))
        except TimeoutError:
            raise WorkerLost("deadline", "it took no input") from None
        except OSError as error:
            raise WorkerLost("crash", self._how_it_ended(error)) from error

    def _receive(self) -> dict[str, Any]:
        try:
            length = payload_length(self._read(HEADER_BYTES))
            message = decode(self._read(length))
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
        """Returns the least time in which a deadline can be reached; 0.0 when one is."""
        on_the_clock_s = self._until - time.monotonic()
        of_processor_s = self._until_cpu_s - self._cpu_s()
        remaining_s = min(on_the_clock_s, of_processor_s)
        return remaining_s if remaining_s > 1e-3 else 0.0

    def _cpu_s(self) -> float:
        """Returns the processor time that the child has used; the clock outside of Linux."""
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


# -- the child's end ------------------------------------------------------------------------------


def main() -> None:
    """Grades what the parent sends, until the parent is gone. Standard input is a socket to it."""
    parent = socket.socket(fileno=os.dup(0))
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)  # or what a judge starts would read the parent's messages
    setup = _next_message(parent)
    if setup is None:
        return
    _die_with(setup["parent_pid"])
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        plugins.load(setup["plugins"])
        for name in setup["judges"]:
            if (prepare := judge_named(name).prepare) is not None:
                prepare()
        limit = _limit_memory(setup["memory_limit_bytes"])
    except Exception as error:
        parent.sendall(encode(_failure("start", error)))
        return
    parent.sendall(encode({"ready": True}))
    while (request := _next_message(parent)) is not None:
        if not _answer(parent, request, limit):
            return


def _answer(parent: socket.socket, request: dict[str, Any], limit: int) -> bool:
    """Sends the verdicts; returns False when this process should end."""
    # Encoded while there is memory for it.
    out_of_memory = encode({"failure": "memory", "detail": "MemoryError"})
    try:
        gold = Gold(**request["gold"])
        for name in request["judges"]:
            judged = judge(name, request["response"], gold)
            if judged.verdict != "right" and _peak_bytes() > limit // 2:
                # sympy and math-verify catch MemoryError and carry on to a `wrong`. Integers and
                # lists grow by doubling: one that met the limit has passed half of it.
                parent.sendall(out_of_memory)
                return False
            parent.sendall(encode({"verdict": judged.verdict, "answer": judged.answer}))
    except MemoryError:
        parent.sendall(out_of_memory)
        return False
    except BaseException as error:  # SystemExit too: nothing a judge raises may look like a verdict
        parent.sendall(encode(_failure("crash", error)))
        return False
    return True


def _failure(cause: str, error: BaseException) -> dict[str, str]:
    return {"failure": cause, "detail": f"{type(error).__name__}: {str(error)[:500]}"}


def _next_message(parent: socket.socket) -> dict[str, Any] | None:
    """Returns the next message, or None when the parent has closed its end."""
    header = parent.recv(HEADER_BYTES, socket.MSG_WAITALL)
    if len(header) < HEADER_BYTES:
        return None
    length = payload_length(header)
    payload = parent.recv(length, socket.MSG_WAITALL)
    return decode(payload) if len(payload) == length else None


def _die_with(parent_pid: int) -> None:
    """Has the kernel kill this process when the thread that started it ends, even in C code.

    Reading the closed socket ends an idle process on any system; one that hangs does not read.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent_pid:  # it ended before the call
            os._exit(1)


def _limit_memory(limit_bytes: int) -> int:
    """Caps the address space at `limit_bytes`; MemoryError if half of it is used already."""
    used = _peak_bytes()
    if used > limit_bytes // 2:
        raise MemoryError(
            f"memory_limit_bytes={limit_bytes}: a grading process needs {used} before the first "
            f"answer; allow at least {4 * used}"
        )
    resource.setrlimit(resource.RLIMIT_AS, (limit_bytes, limit_bytes))
    return limit_bytes


def _peak_bytes() -> int:
    """Returns the largest address space this process has had; 0 outside of Linux."""
    if sys.platform != "linux":
        return 0
    with open("/proc/self/status", "rb") as status:
        for line in status:
            if line.startswith(b"VmPeak:"):
                return int(line.split()[1]) * 1024
    return 0
