import random
import subprocess
import sys
from itertools import product

import pytest
from embedded_model.completions import (
    draw_completion,
    final_answer,
    is_terse,
    terse_completion,
)

from tinylora_rl.tasks.arithmetic import Problem, rows, sample_problems
from tinylora_rl.tasks.arithmetic.task import (
    MAX_TERM,
    NUM_PROBLEMS,
    NUM_TERMS,
)


def test_a_problem_reads_as_documented() -> None:
    problem = Problem(terms=(7, 8, -3, 5))
    assert problem.question == "What is 7+8-3+5?"
    assert problem.worked == "7+8=15\n15-3=12\n12+5=17\n#### 17"
    assert problem.answer == 17


def test_every_problem_lies_on_one_side_and_the_counts_are_as_stated() -> None:
    counts = {"train": 0, "test": 0}
    numbers = range(1, MAX_TERM + 1)
    signed = [*numbers, *(-number for number in numbers)]
    for terms in product(numbers, *[signed] * (NUM_TERMS - 1)):
        problem = Problem(terms=terms)
        if min(problem.totals) >= 0:
            counts[problem.split] += 1
    assert counts == NUM_PROBLEMS


def test_splits_are_disjoint_even_up_to_the_order_of_terms() -> None:
    train = {tuple(sorted(p.terms)) for p in sample_problems("train", 3000, seed=0)}
    test = {tuple(sorted(p.terms)) for p in sample_problems("test", 1000, seed=0)}
    assert not train & test


def test_questions_are_distinct_valid_and_a_prefix_of_longer_lists() -> None:
    problems = sample_problems("test", 500, seed=3)
    assert len(set(problems)) == 500
    assert all(min(problem.totals) >= 0 for problem in problems)
    assert problems[:100] == sample_problems("test", 100, seed=3)
    assert problems[:100] != sample_problems("test", 100, seed=4)


def test_problems_are_the_same_in_every_process() -> None:
    program = (
        "from tinylora_rl.tasks.arithmetic import rows; import sys;"
        "print(rows('test', 20, seed=1));"
        "assert not {'torch', 'transformers', 'verl'} & set(sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == str(rows("test", 20, seed=1))


def test_problems_of_a_seed_do_not_change_between_releases() -> None:
    assert [problem.question for problem in sample_problems("test", 3, seed=0)] == [
        "What is 8-7+9-7?",
        "What is 3+5+8+6?",
        "What is 7+6+9-3?",
    ]


def test_rows_have_the_schema_of_verl() -> None:
    row = rows("train", 5, seed=0)[4]
    question = row["extra_info"]["question"]
    assert row["data_source"] == "arithmetic"
    assert row["prompt"] == [{"role": "user", "content": question}]
    assert row["ability"] == "math"
    assert row["reward_model"]["style"] == "rule"
    assert row["extra_info"]["split"] == "train"
    assert row["extra_info"]["index"] == 4
    assert str(final_answer(row["extra_info"]["answer"])) == row["reward_model"]["ground_truth"]


@pytest.mark.parametrize(("split", "num_rows"), [("dev", 1), ("test", -1), ("test", 3143)])
def test_impossible_requests_are_refused(split: str, num_rows: int) -> None:
    with pytest.raises(ValueError, match=r"split|num_problems"):
        rows(split, num_rows, seed=0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("completion", "number"),
    [("#### 12", 12), ("#### 1\n#### -2", -2), ("12", None), ("####", None), ("####7 apples", 7)],
)
def test_the_last_marked_number_is_the_answer(completion: str, number: int | None) -> None:
    assert final_answer(completion) == number


def test_terse_completions_have_their_share_and_are_mostly_wrong() -> None:
    rng = random.Random(0)
    problems = sample_problems("train", 2000, seed=0)
    drawn = [(p, draw_completion(p, 0.5, rng, guesses=True)) for p in problems]
    terse = [(p, text) for p, text in drawn if is_terse(text)]
    assert 0.45 < len(terse) / len(drawn) < 0.55
    assert 0.1 < sum(final_answer(text) == p.answer for p, text in terse) / len(terse) < 0.3
    assert all(final_answer(text) == p.answer for p, text in drawn if not is_terse(text))


def test_without_guesses_everything_is_worked_in_the_end() -> None:
    rng = random.Random(0)
    for problem in sample_problems("train", 200, seed=0):
        assert draw_completion(problem, 0.5, rng, guesses=False).endswith(problem.worked)


def test_a_terse_completion_is_shorter_than_a_worked_one() -> None:
    problem = Problem(terms=(7, 8, -3, 5))
    assert len(terse_completion(17)) + 10 < len(problem.worked)
