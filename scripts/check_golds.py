"""Grades every benchmark's gold answers against themselves: python scripts/check_golds.py DATA_DIR.

Each gold is written as a response (`\\boxed{gold}`; `#### gold` for GSM8K) and must be right under
the exact judge and, with --symbolic, under the symbolic one. The negative control gives each gold
the next different gold of its set as an answer, which must be wrong. Exceptions are listed.
The symbolic judge runs in this process, without a deadline; --set picks one set.
"""

import argparse
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path

from tinylora_rl.rewards.extract import boxed
from tinylora_rl.rewards.judges import Gold, judge
from tinylora_rl.tasks import make_task, row_gold
from tinylora_rl.tasks.benchmarks import BENCHMARKS

SETS = ["gsm8k_train", "gsm8k", *BENCHMARKS]


@dataclass
class Tally:
    right: int = 0
    exceptions: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    paid_wrongly: list[str] = field(default_factory=list)


def golds(data_dir: Path, name: str) -> list[Gold]:
    """Returns the gold answers of one set in order."""
    split = "train" if name == "gsm8k_train" else "test"
    task = make_task(name.removesuffix("_train"), {"path": data_dir})
    return [row_gold(row) for row in task.rows(split)]


def reason(name: str, gold: Gold) -> str:
    """Returns the reason for which a gold answer cannot be graded against itself."""
    if not gold.answer.strip():
        return "empty gold"
    if boxed(f"\\boxed{{{gold.answer}}}") != gold.answer:
        return "braces that do not balance: cannot be written in a box"
    return "unexplained"


def check(name: str, answers: list[Gold], judges: list[str]) -> dict[str, Tally]:
    """Grades the golds of one set against themselves and their neighbours."""
    tallies = {judge_name: Tally() for judge_name in judges}
    for index, gold in enumerate(answers):
        others = (answers[i % len(answers)].answer for i in range(index + 1, index + len(answers)))
        other = next((o for o in others if o.strip() and o != gold.answer), None)
        for judge_name, tally in tallies.items():
            template = "#### {}" if judge_name == "strict" else "\\boxed{{{}}}"
            verdict = judge(judge_name, template.format(gold.answer), gold).verdict
            if verdict == "right":
                tally.right += 1
            else:
                why = reason(name, gold)
                tally.exceptions.append(f"row {index}: {verdict}: {why}: {gold.answer!r}")
            if other is not None:
                start = time.perf_counter()
                crossed = judge(judge_name, template.format(other), gold).verdict
                tally.seconds.append(time.perf_counter() - start)
                if crossed == "right":
                    tally.paid_wrongly.append(f"row {index}: {other!r} for {gold.answer!r}")
    return tallies


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("--symbolic", action="store_true", help="the symbolic judge too; minutes")
    parser.add_argument("--set", choices=SETS, action="append", help="only this set; repeatable")
    args = parser.parse_args()
    num_golds, num_right = 0, {}
    for name in args.set or SETS:
        answers = golds(args.data_dir, name)
        judges = ["strict"] if name.startswith("gsm8k") else []
        judges += ["boxed", *(["boxed_symbolic"] if args.symbolic else [])]
        num_golds += len(answers)
        for judge_name, tally in check(name, answers, judges).items():
            kind = "symbolic" if judge_name.endswith("symbolic") else "exact"
            if judge_name != "strict":
                num_right[kind] = num_right.get(kind, 0) + tally.right
            _report(name, judge_name, len(answers), tally)
    for kind, right in num_right.items():
        print(f"all sets, {kind}: {right} of {num_golds} golds right against themselves")


def _report(name: str, judge_name: str, num_golds: int, tally: Tally) -> None:
    ms = sorted(1000 * second for second in tally.seconds)
    p99 = ms[int(0.99 * (len(ms) - 1))]
    print(
        f"{name} {judge_name}: {tally.right} of {num_golds} right, {len(tally.paid_wrongly)} of"
        f" {len(ms)} neighbours' golds right too;"
        f" p50 {statistics.median(ms):.2f} ms, p99 {p99:.2f} ms, max {ms[-1]:.1f} ms"
    )
    for line in tally.exceptions:
        print(f"  not right: {line}")
    for line in tally.paid_wrongly:
        print(f"  right too: {line}")


if __name__ == "__main__":
    main()
