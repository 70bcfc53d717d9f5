"""Every gold answer of the benchmarks is right under its judges, and its neighbour is not."""

import json
import os
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DATA_DIR = Path(os.environ.get("TINYLORA_DATA", ROOT.parent / "shared" / "data"))
check_golds = runpy.run_path(str(ROOT / "scripts/check_golds.py"))
FILES, check, golds = check_golds["FILES"], check_golds["check"], check_golds["golds"]

NUM_ROWS = [7473, 1319, 500, 272, 675, 30, 40, 385, 2818]
EMPTY_GOLDS = {"eval/gaokao2023en": 2}  # `$$`: the benchmark states no answer

# One row per way in which the nine files state an answer.
EXAMPLES = {
    "gsm8k/train": [{"answer": "48+24 = <<48+24=72>>72\n#### 72"}, {"answer": "so\n#### 1,080"}],
    "eval/math500": [
        {"answer": r"\left( 3, \frac{\pi}{2} \right)"},
        {"answer": r"11,\! 111,\! 111,\! 100"},
        {"answer": r"864 \mbox{ inches}^2"},
        {"answer": r"\begin{pmatrix} -1/3 \\ 2/3 \\ 5/3 \end{pmatrix}"},
    ],
    "eval/minerva_math": [
        {"solution": r"so $L=\boxed{4.5e33}$ W"},
        {"solution": r"\boxed{\frac{1}{2a}(\exp{a*t} - \exp{-a*t})}"},
    ],
    "eval/olympiadbench": [
        {"final_answer": ["$69$,$84$"], "is_multiple_answer": True, "error": None},
        {"final_answer": ["4.2"], "is_multiple_answer": False, "error": "1e-1"},
        {"final_answer": ["$221,$8$"], "is_multiple_answer": True, "error": None},
    ],
    "eval/amc23": [{"answer": 27.0}, {"answer": 3159.0}],
    "eval/gaokao2023en": [{"answer": r"$\{x|-2\leq x < 1\}$"}, {"answer": "$5$ or $9$"}],
    "eval/college_math": [
        {"answer": r"$6.608 \mathrm{mi} / \mathrm{hr}$"},
        {"answer": r"$-2 \leqslant n \leqslant 4:[-2,4]$"},
        {"answer": r"$\bigcup_{k=-\infty}^{\infty}(2 k \pi,(2 k+2) \pi)$"},
    ],
}


def judges_of(name):
    return ["strict", "boxed"] if name.startswith("gsm8k") else ["boxed"]


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples(name, tmp_path):
    path = tmp_path / f"{name}.jsonl"
    path.parent.mkdir()
    path.write_text("\n".join(map(json.dumps, EXAMPLES[name])) + "\n", encoding="utf-8")
    answers = list(golds(tmp_path, name))
    for tally in check(name, answers, [*judges_of(name), "boxed_symbolic"]).values():
        assert (tally.right, tally.exceptions) == (len(answers), [])
        assert tally.paid_wrongly == []


@pytest.mark.parametrize(("name", "num_rows"), [*zip(FILES, NUM_ROWS, strict=True)])
def test_every_gold_is_right(name, num_rows):
    if not (DATA_DIR / f"{name}.jsonl").is_file():
        pytest.skip(f"no real {name}: set TINYLORA_DATA to a folder with {name}.jsonl")
    answers = list(golds(DATA_DIR, name))
    num_empty = sum(not gold.answer for gold in answers)
    assert (len(answers), num_empty) == (num_rows, EMPTY_GOLDS.get(name, 0))
    for tally in check(name, answers, judges_of(name)).values():
        assert tally.right == num_rows - num_empty, tally.exceptions
        assert all("empty gold" in line for line in tally.exceptions)
        # `x=5` beside `5` in MATH500: the same value
        assert tally.paid_wrongly == (["row 22: 'x=5' for '5'"] if "math500" in name else [])
