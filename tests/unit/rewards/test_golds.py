"""Every gold answer of the benchmarks is right under its judges, and its neighbour is not."""

import os
import runpy
from pathlib import Path

import pytest

from tinylora_rl.rewards import Gold

ROOT = Path(__file__).resolve().parents[3]
DATA_DIR = Path(os.environ.get("TINYLORA_DATA", ROOT.parent / "shared" / "data"))
check_golds = runpy.run_path(str(ROOT / "scripts/check_golds.py"))
SETS, check, golds = check_golds["SETS"], check_golds["check"], check_golds["golds"]

NUM_ROWS = [7473, 1319, 500, 272, 675, 30, 40, 385, 2818]
EMPTY_GOLDS = {"gaokao2023en": 2}  # `$$`: the benchmark states no answer

# One gold per way in which the nine sets state an answer.
EXAMPLES = {
    "gsm8k": [Gold(answer="72"), Gold(answer="1080")],
    "math500": [
        Gold(answer=r"\left( 3, \frac{\pi}{2} \right)"),
        Gold(answer=r"11,\! 111,\! 111,\! 100"),
        Gold(answer=r"864 \mbox{ inches}^2"),
        Gold(answer=r"\begin{pmatrix} -1/3 \\ 2/3 \\ 5/3 \end{pmatrix}"),
    ],
    "minerva_math": [
        Gold(answer="4.5e33"),
        Gold(answer=r"\frac{1}{2a}(\exp{a*t} - \exp{-a*t})"),
    ],
    "olympiadbench": [
        Gold(answer="69, 84", unordered=True),
        Gold(answer="4.2", tolerance=0.1),
        Gold(answer="221, 8", unordered=True),
    ],
    "gaokao2023en": [Gold(answer=r"\{x|-2\leq x < 1\}"), Gold(answer="5 or 9")],
    "college_math": [
        Gold(answer=r"6.608 \mathrm{mi} / \mathrm{hr}"),
        Gold(answer=r"-2 \leqslant n \leqslant 4:[-2,4]"),
        Gold(answer=r"\bigcup_{k=-\infty}^{\infty}(2 k \pi,(2 k+2) \pi)"),
    ],
}


def judges_of(name):
    return ["strict", "boxed"] if name.startswith("gsm8k") else ["boxed"]


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples(name):
    answers = EXAMPLES[name]
    for tally in check(name, answers, [*judges_of(name), "boxed_symbolic"]).values():
        assert (tally.right, tally.exceptions) == (len(answers), [])
        assert tally.paid_wrongly == []


@pytest.mark.parametrize(("name", "num_rows"), [*zip(SETS, NUM_ROWS, strict=True)])
def test_every_gold_is_right(name, num_rows):
    if not DATA_DIR.is_dir():
        pytest.skip("no real benchmarks: set TINYLORA_DATA to a folder with gsm8k/ and eval/")
    answers = golds(DATA_DIR, name)
    num_empty = sum(not gold.answer for gold in answers)
    assert (len(answers), num_empty) == (num_rows, EMPTY_GOLDS.get(name, 0))
    for tally in check(name, answers, judges_of(name)).values():
        assert tally.right == num_rows - num_empty, tally.exceptions
        assert all("empty gold" in line for line in tally.exceptions)
        # `x=5` beside `5` in MATH500: the same value
        assert tally.paid_wrongly == (["row 22: 'x=5' for '5'"] if "math500" in name else [])
