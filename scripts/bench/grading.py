"""Measures the grading pool: its throughput on plain answers, its losses on hostile ones.

    python scripts/bench/grading.py                     # 1,024 responses of 3 kB, and math-verify
    python scripts/bench/grading.py --hostile 10000     # and hostile ones: an hour or less

Everything runs on two cores. The baselines, on the same responses in the same run, are math-verify
as its documentation has it (`parse` and `verify` in the main thread, alarms of its own) and a
process per answer. math-verify reads more answers as right than our judges: verdicts are not
compared. Hostile answers are those of `tests/unit/rewards/hostile.py`; a baseline gets a sample of
them and is killed when it has taken ten times the pool's time.
"""

import argparse
import logging
import multiprocessing
import os
import random
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # for `tests`, which no installation has

from tests.unit.rewards.hostile import hostile  # noqa: E402
from tinylora_rl.rewards import Gold, GradingPool, Submission  # noqa: E402
from tinylora_rl.rewards.judges import JUDGES, is_isolated  # noqa: E402

EXACT = tuple(name for name in JUDGES if not is_isolated(name))
SYMBOLIC = ("boxed_symbolic",)
FILLER = (
    "We first note that $x^2 - 5x + 6 = (x - 2)(x - 3)$, so the roots are 2 and 3. ",
    r"Hence \[ \sum_{k=1}^{12} k = \frac{12 \cdot 13}{2} = 78, \] which is even.",
    "\nTherefore the total number of ways is 4 * 3 = 12, and each costs $1,250. ",
    "\nLet us verify this by substituting back into the equation that was given. ",
)
# (answer, gold): the same value written in another way, or not.
RIGHT = (
    (r"\frac{{{n}}}{{7}}", r"\dfrac{{{n}}}{{7}}"),
    (r"{n}x + {n}", r"{n}(x+1)"),
    (r"\frac{{{n}}}{{\sqrt{{2}}}}", r"\frac{{{n}\sqrt{{2}}}}{{2}}"),
    (r"x^2 + {n}x + 1", r"1 + {n}x + x^2"),
    (r"\left({n}, \frac{{\pi}}{{2}}\right)", r"({n}, \pi/2)"),
    (r"\sqrt{{{n}}} + \sqrt{{3}}", r"\sqrt{{3}} + \sqrt{{{n}}}"),
    (r"{n}\pi", r"\pi \cdot {n}"),
    (r"[{n}, \infty)", r"[{n},\infty)"),
)
WRONG = (
    (r"\frac{{{n}}}{{7}}", r"\frac{{{n}}}{{8}}"),
    (r"{n}x + 1", r"{n}(x+1)"),
    (r"\frac{{{n}}}{{\sqrt{{3}}}}", r"\frac{{{n}\sqrt{{2}}}}{{2}}"),
    (r"x^2 - {n}x + 1", r"1 + {n}x + x^2"),
    (r"{n}\sqrt{{2}}", r"{n}\sqrt{{3}}"),
    (r"\left({n}, \frac{{\pi}}{{3}}\right)", r"({n}, \pi/2)"),
    (r"{n}e^{{x}}", r"{n}e^{{2x}}"),
    (r"({n}, \infty)", r"[{n},\infty)"),
)


def plain(num: int, num_chars: int) -> list[tuple[str, str]]:
    """Returns (response, gold answer): worked solutions, every other one wrong."""
    rng = random.Random(0)
    pairs = []
    for i in range(num):
        answer, gold = rng.choice((RIGHT, WRONG)[i % 2])
        n = rng.randint(2, 10_000)
        end = rf"The answer is $\boxed{{{answer.format(n=n)}}}$." + f"\n#### {n}"
        text = ""
        while len(text) < num_chars - len(end):
            text += rng.choice(FILLER)
        pairs.append((text[: num_chars - len(end)] + end, gold.format(n=n)))
    return pairs


def math_verify_verdict(response: str, gold: str) -> bool:
    """Calls math-verify in its documented way: alarms of 5 s for each of the three steps."""
    from math_verify import parse, verify

    return verify(parse(f"${gold}$"), parse(response))


def timed(label: str, num: int, run: Callable[[], object]) -> float:
    start = time.perf_counter()
    result = run()
    seconds = time.perf_counter() - start
    print(f"{label:<48} {seconds:8.3f} s {1e3 * seconds / num:9.3f} ms each   {result}", flush=True)
    return seconds


def bench_plain(num: int, num_chars: int) -> None:
    pairs = plain(num, num_chars)
    print(f"\n{num} responses of {num_chars} characters")
    with GradingPool(num_workers=2) as pool:

        def grade(*judges: str) -> dict[str, int]:
            work = [
                Submission(response=response, gold=Gold(answer=gold), judges=judges)
                for response, gold in pairs
            ]
            results = pool.grade_many(work)
            return dict(Counter(one.judged[judges[-1]].verdict for one in results))

        for name in EXACT:
            timed(f"exact, {name}", num, lambda name=name: grade(name))
        timed("exact, strict and flexible", num, lambda: grade("strict", "flexible"))
        timed("symbolic, 2 processes, their start included", num, lambda: grade(*SYMBOLIC))
        timed("symbolic, 2 processes", num, lambda: grade(*SYMBOLIC))
        timed("exact and symbolic, 2 processes", num, lambda: grade(*EXACT, *SYMBOLIC))
    some = pairs[: max(num // 16, 1)]
    math_verify_verdict(r"\boxed{x}", "x")
    timed(
        "math-verify, main thread, 1 core",
        num,
        lambda: {"right": sum(math_verify_verdict(*pair) for pair in pairs)},
    )

    def one_process_each() -> dict[str, int]:
        context = multiprocessing.get_context("spawn")
        with context.Pool(2, maxtasksperchild=1) as pool:
            return {"right": sum(pool.starmap(math_verify_verdict, some, chunksize=1))}

    timed(f"math-verify, a spawned process each ({len(some)})", len(some), one_process_each)


def bench_hostile(num: int, deadline_s: float, seed: int) -> None:
    cases = list(hostile(num, seed))
    judges = (*EXACT, *SYMBOLIC)
    print(f"\n{num} hostile responses, seed {seed}, deadline {deadline_s} s, judges {judges}")
    work = [Submission(response=r, gold=Gold(answer=g), judges=judges) for _, r, g in cases]
    with GradingPool(num_workers=2, deadline_s=deadline_s) as pool:
        start = time.perf_counter()
        results = []
        while len(results) < num:
            results += pool.grade_many(work[len(results) :][:500])
            print(f"{len(results)} {time.perf_counter() - start:.0f} s", end="\r", file=sys.stderr)
        seconds = time.perf_counter() - start
        counts = pool.counts
    slowest = sorted((g.grade_s, f) for g, (f, _, _) in zip(results, cases, strict=True))[::-1]
    lost = Counter(f for g, (f, _, _) in zip(results, cases, strict=True) if g.failure)
    verdicts = Counter(one.verdict for g in results for one in g.judged.values())
    print(f"came back           {len(results)} of {num}, in {seconds:.1f} s, parent alive")
    print(f"slowest             {', '.join(f'{s:.3f} s {f}' for s, f in slowest[:3])}")
    print(f"timed out           {sum(lost.values())} answers: {dict(lost.most_common())}")
    print(f"processes           {counts}")
    print(f"verdicts            {dict(verdicts)}")
    print(f"peak resident       parent {peak_mb(resource.RUSAGE_SELF)} MB,", end=" ")
    print(f"largest child {peak_mb(resource.RUSAGE_CHILDREN)} MB")
    sample = cases[: min(num, 240)]
    start = time.perf_counter()
    with GradingPool(num_workers=1, deadline_s=deadline_s) as pool:
        pool.grade_many(
            Submission(response=r, gold=Gold(answer=g), judges=SYMBOLIC) for _, r, g in sample
        )
    ours_s = time.perf_counter() - start
    print(f"{len(sample)} of them, 1 process   {ours_s:.1f} s")
    baseline(sample, limit_s=10 * ours_s)


def baseline(cases: list[tuple[str, str, str]], limit_s: float) -> None:
    """Runs math-verify in its own way on the same answers, in a process that can be killed here."""
    context = multiprocessing.get_context("spawn")
    progress = context.Array("d", len(cases))
    child = context.Process(target=_baseline, args=(cases, progress))
    start = time.perf_counter()
    child.start()
    child.join(limit_s)
    seconds = time.perf_counter() - start
    hung = child.is_alive()
    child.kill()
    child.join()
    done = [s for s in progress if s]
    print(f"math-verify's way   {len(done)} of {len(cases)} in {seconds:.1f} s,", end=" ")
    print("still on the next one when ended," if hung else f"exit code {child.exitcode},", end=" ")
    print(f"slowest {max(map(abs, done), default=0):.1f} s, raised {sum(s < 0 for s in done)}")


def _baseline(cases: list[tuple[str, str, str]], progress: "list[float]") -> None:
    logging.disable()
    for i, (_, response, gold) in enumerate(cases):
        start = time.perf_counter()
        try:
            math_verify_verdict(response, gold)
            sign = 1
        except BaseException:  # what a user of it would have to catch: a TimeoutException is one
            sign = -1
        progress[i] = sign * max(time.perf_counter() - start, 1e-9)


def peak_mb(processes: int) -> int:
    return resource.getrusage(processes).ru_maxrss // 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num", type=int, default=1024)
    parser.add_argument("--chars", type=int, default=3000)
    parser.add_argument("--hostile", type=int, default=0, help="how many")
    parser.add_argument("--deadline", type=float, default=1.0, help="seconds, of a hostile one")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
    print(f"load average at the start {os.getloadavg()[0]:.1f} on 2 of {os.cpu_count()} cores")
    if args.num:
        bench_plain(args.num, args.chars)
    if args.hostile:
        bench_hostile(args.hostile, args.deadline, args.seed)


if __name__ == "__main__":
    main()
