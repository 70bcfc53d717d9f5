"""Judges that misbehave on purpose, in the shape of `tinylora_rl.rewards.judges`, for the pool."""

import os
import signal
import time

from tinylora_rl.rewards.judges import Gold, Judged

__all__ = ["JUDGES", "Gold", "is_symbolic", "judge"]


def exact(response: str, gold: Gold) -> Judged:
    verdict = "right" if response == gold.answer else "wrong"
    return Judged(verdict=verdict, answer=response)


def slow(response: str, gold: Gold) -> Judged:
    """Sleeps as many milliseconds as the gold answer says."""
    time.sleep(int(gold.answer) / 1000)
    return Judged(verdict="right", answer=response)


def spins(response: str, gold: Gold) -> Judged:
    while True:
        pass


def spins_in_c(response: str, gold: Gold) -> Judged:
    """No Python signal handler, thread or exception gets a turn in there."""
    return Judged(verdict="right", answer=str(len(str(7 ** (10**9)))))


def ignores_signals(response: str, gold: Gold) -> Judged:
    for number in (signal.SIGTERM, signal.SIGALRM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    while True:
        time.sleep(1)


def fills_memory(response: str, gold: Gold) -> Judged:
    hoard = [b"x" * 1_000_000]
    while True:
        hoard.append(hoard[-1] + b"y" * 1_000_000)


def hides_memory_error(response: str, gold: Gold) -> Judged:
    try:
        return fills_memory(response, gold)
    except MemoryError:
        return Judged(verdict="wrong", answer=response)


def overflows_the_stack(response: str, gold: Gold) -> Judged:
    """A segmentation fault: C recursion without a limit."""
    nested: tuple = ()
    for _ in range(500_000):
        nested = (nested,)
    return Judged(verdict="right", answer=str(hash(nested)))


def raises(response: str, gold: Gold) -> Judged:
    raise KeyError("surprise")


def recurses(response: str, gold: Gold) -> Judged:
    return recurses(response, gold)


def exits(response: str, gold: Gold) -> Judged:
    os._exit(0)


def exits_politely(response: str, gold: Gold) -> Judged:
    raise SystemExit(0)


def writes_nonsense(response: str, gold: Gold) -> Judged:
    os.write(0, b"\x00\x00\x00\x04what")
    time.sleep(60)
    raise AssertionError


def announces_too_much(response: str, gold: Gold) -> Judged:
    os.write(0, b"\xff\xff\xff\xff")
    time.sleep(60)
    raise AssertionError


def says_maybe(response: str, gold: Gold) -> Judged:
    return Judged(verdict="maybe", answer=response)  # type: ignore[arg-type]


def prints(response: str, gold: Gold) -> Judged:
    print("to the standard output", flush=True)
    return Judged(verdict="right", answer=response)


def tells_pid(response: str, gold: Gold) -> Judged:
    return Judged(verdict="right", answer=str(os.getpid()))


def tells_modules(response: str, gold: Gold) -> Judged:
    import sys

    heavy = {"torch", "verl", "vllm", "ray", "numpy"}
    return Judged(verdict="right", answer=" ".join(sorted(heavy & set(sys.modules))))


JUDGES = {
    judge.__name__: judge
    for judge in (
        prints,  # the first one that is symbolic is asked once at the start
        *(exact, slow, spins, spins_in_c, ignores_signals, fills_memory, hides_memory_error),
        *(overflows_the_stack, raises, recurses, exits, exits_politely, writes_nonsense),
        *(announces_too_much, says_maybe, tells_pid, tells_modules),
    )
}


def is_symbolic(name: str) -> bool:
    return name != "exact"


def judge(name: str, response: str, gold: Gold) -> Judged:
    return JUDGES[name](response, gold)
