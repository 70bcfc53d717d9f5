"""A plugin with judges that misbehave on purpose, for the pool."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tinylora_rl.rewards import Gold, register_judge
from tinylora_rl.rewards.process import encode


def slow(response: str, gold: Gold) -> bool:
    """Sleeps as many milliseconds as the gold answer says."""
    time.sleep(int(gold.answer) / 1000)
    return True


def spins(response: str, gold: Gold) -> bool:
    while True:
        pass


def spins_in_c(response: str, gold: Gold) -> bool:
    """No Python signal handler, thread or exception gets a turn in there."""
    return len(str(7 ** (10**9))) > 0


def ignores_signals(response: str, gold: Gold) -> bool:
    for number in (signal.SIGTERM, signal.SIGALRM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    while True:
        time.sleep(1)


def fills_memory(response: str, gold: Gold) -> bool:
    hoard = [b"x" * 1_000_000]
    while True:
        hoard.append(hoard[-1] + b"y" * 1_000_000)


def hides_memory_error(response: str, gold: Gold) -> bool:
    try:
        return fills_memory(response, gold)
    except MemoryError:
        return False


def overflows_the_stack(response: str, gold: Gold) -> bool:
    """A segmentation fault: C recursion without a limit."""
    nested: tuple = ()
    for _ in range(500_000):
        nested = (nested,)
    return hash(nested) != 0


def raises(response: str, gold: Gold) -> bool:
    raise KeyError("surprise")


def recurses(response: str, gold: Gold) -> bool:
    return recurses(response, gold)


def exits(response: str, gold: Gold) -> bool:
    os._exit(0)


def exits_politely(response: str, gold: Gold) -> bool:
    raise SystemExit(0)


def writes(data: bytes) -> bool:
    """Writes to the process's one socket, past the protocol."""
    for name in os.listdir("/proc/self/fd"):
        try:
            is_socket = os.readlink(f"/proc/self/fd/{name}").startswith("socket:")
        except FileNotFoundError:  # the listing's own
            continue
        if is_socket:
            os.write(int(name), data)
    time.sleep(60)
    raise AssertionError


def writes_nonsense(response: str, gold: Gold) -> bool:
    return writes(b"\x00\x00\x00\x04what")


def announces_too_much(response: str, gold: Gold) -> bool:
    return writes(b"\xff\xff\xff\xff")


def says_maybe(response: str, gold: Gold) -> bool:
    return writes(encode({"verdict": "maybe", "answer": response}))


def returns_maybe(response: str, gold: Gold) -> str:
    return "maybe"


def returns_nothing(response: str, gold: Gold) -> None:
    response == gold.answer  # noqa: B015


def reads_the_input(response: str, gold: Gold) -> bool:
    """Imitates a program that a judge starts: the parent's messages are not there."""
    return os.read(0, 1) == b""


def starts_a_process(response: str, gold: Gold) -> bool:
    """Its process id is in the file that the response names."""
    process = subprocess.Popen(["sleep", "300"])
    Path(response).write_text(str(process.pid))
    return process.wait() == 0


def prints(response: str, gold: Gold) -> bool:
    print("to the standard output", flush=True)
    return True


def text_or_dash(response: str) -> str:
    return response or "-"


def tells_pid(response: str) -> str:
    return str(os.getpid())


def tells_modules(response: str) -> str:
    heavy = {"torch", "verl", "vllm", "ray", "numpy", "sympy"}
    return " ".join(["modules", *sorted(heavy & set(sys.modules))])


def tells_environment(response: str) -> str:
    return " ".join(sorted(os.environ))


for grader in (
    *(prints, slow, spins, spins_in_c, ignores_signals, fills_memory, hides_memory_error),
    *(overflows_the_stack, raises, recurses, exits, exits_politely, writes_nonsense),
    *(announces_too_much, says_maybe, returns_maybe, returns_nothing, reads_the_input),
    starts_a_process,
):
    register_judge(grader.__name__, extractor=text_or_dash, grader=grader)
for extractor in (tells_pid, tells_modules, tells_environment):
    register_judge(extractor.__name__, extractor=extractor, grader=lambda answer, gold: True)
