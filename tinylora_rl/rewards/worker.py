"""The process side of the grading pool: one answer after another, until the parent is gone.

Run as a script by `process.GradingProcess`, with a socket to the parent as its standard input. Only
the standard library is imported here; the judges and sympy come in at the start, before `ready`, so
that no answer's deadline pays for them.

    parent -> {"sys_path", "judges_module", "memory_limit_bytes", "parent_pid"}    -> {"ready"}
    parent -> {"response", "gold", "judges"}    -> {"verdict", "answer"} for each judge, in order
Each is a frame: its length, four bytes, then JSON in UTF-8 that lets lone surrogates pass.

A judge that exhausts memory or raises ends the process: what it left behind is not trusted with the
next answer. `{"failure", "detail"}` is the last frame then. A process that is killed sends none.
"""

import ctypes
import importlib
import json
import os
import resource
import signal
import socket
import struct
import sys
from typing import Any

MAX_FRAME_BYTES = 1 << 28
_LENGTH = struct.Struct(">I")
_PR_SET_PDEATHSIG = 1
_WARM_UP_RESPONSE = r"\boxed{\frac{\sqrt{2}}{x+1}}"  # loads sympy and the LaTeX parser's tables
_WARM_UP_GOLD = {"answer": r"\sqrt{2}(x+1)^{-1}", "tolerance": None, "unordered": False}


def encode(message: dict[str, Any]) -> bytes:
    """Return the frame of a message. Strings arrive code point for code point."""
    payload = json.dumps(message, ensure_ascii=False).encode("utf-8", "surrogatepass")
    return _LENGTH.pack(len(payload)) + payload


def decode(payload: bytes) -> Any:
    """Return the message of a frame's payload; ValueError if it is not one."""
    return json.loads(payload.decode("utf-8", "surrogatepass"))


def payload_length(header: bytes) -> int:
    """Return the number of bytes that follow a frame's header; ValueError above the limit."""
    (length,) = _LENGTH.unpack(header)
    if length > MAX_FRAME_BYTES:
        raise ValueError(f"frame_bytes={length}: above {MAX_FRAME_BYTES}")
    return int(length)


HEADER_BYTES = _LENGTH.size


def main() -> None:
    parent = socket.socket(fileno=0)
    setup = _receive(parent)
    if setup is None:
        return
    _die_with(setup["parent_pid"])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole terminal: parent's word
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        sys.path[:] = setup["sys_path"]
        judges = importlib.import_module(setup["judges_module"])
        for name in judges.JUDGES:
            if judges.is_symbolic(name):
                judges.judge(name, _WARM_UP_RESPONSE, judges.Gold(**_WARM_UP_GOLD))
                break
        limit = _limit_memory(setup["memory_limit_bytes"])
    except Exception as error:
        parent.sendall(encode(_failure("start", error)))
        return
    parent.sendall(encode({"ready": True}))
    while (request := _receive(parent)) is not None:
        if not _answer(parent, judges, request, limit):
            return


def _answer(parent: socket.socket, judges: Any, request: dict[str, Any], limit: int) -> bool:
    """Send the verdicts; False when this process should end."""
    out_of_memory = encode(
        {"failure": "memory", "detail": "MemoryError"}
    )  # made while there is some
    try:
        gold = judges.Gold(**request["gold"])
        for name in request["judges"]:
            judged = judges.judge(name, request["response"], gold)
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


def _receive(parent: socket.socket) -> dict[str, Any] | None:
    """Return the next message, or None when the parent has closed its end."""
    header = parent.recv(HEADER_BYTES, socket.MSG_WAITALL)
    if len(header) < HEADER_BYTES:
        return None
    length = payload_length(header)
    payload = parent.recv(length, socket.MSG_WAITALL)
    return decode(payload) if len(payload) == length else None


def _die_with(parent_pid: int) -> None:
    """The kernel kills this process when the thread that started it ends, even in the middle of C.

    Reading the closed socket ends an idle process on any system; one that hangs does not read.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent_pid:  # it ended before the call
            os._exit(1)


def _limit_memory(limit_bytes: int) -> int:
    """Cap the address space at `limit_bytes`; MemoryError if half of it is used already."""
    used = _peak_bytes()
    if used > limit_bytes // 2:
        raise MemoryError(
            f"memory_limit_bytes={limit_bytes}: a grading process needs {used} before the first "
            f"answer; allow at least {4 * used}"
        )
    resource.setrlimit(resource.RLIMIT_AS, (limit_bytes, limit_bytes))
    return limit_bytes


def _peak_bytes() -> int:
    """The largest address space this process has had; 0 where the system does not say."""
    if sys.platform != "linux":
        return 0
    with open("/proc/self/status", "rb") as status:
        for line in status:
            if line.startswith(b"VmPeak:"):
                return int(line.split()[1]) * 1024
    return 0


if __name__ == "__main__":
    main()
