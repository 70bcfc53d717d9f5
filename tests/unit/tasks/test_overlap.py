import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinylora_rl.tasks import make_task

SCRIPT = Path(__file__).parents[3] / "scripts" / "overlap.py"
SPEC = importlib.util.spec_from_file_location("overlap_script", SCRIPT)
script = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(script)
tokenize = script.tokenize


def overlap(train_rows, test_rows):
    return script.overlap(script.index_of(train_rows), test_rows)


def rows(*questions):
    return [{"extra_info": {"question": question}} for question in questions]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("How many  clips?", "how many clips"),
        ("What is $5$ + $3$?", "What is 5+3?"),
        (r"Find $\dfrac{1}{2}\, x$", r"find \frac{1}{2} x."),
        (r"$\left( x \right)$", "(x)"),
        ("It costs 1,200", "It costs 1200"),
        ("a four-digit number", "a four digit number"),
        ("\N{MATHEMATICAL ITALIC SMALL X} \N{MINUS SIGN} 1", "x - 1"),
        ("\N{LATIN SMALL LIGATURE FI}nd", "find"),
    ],
)
def test_what_makes_no_difference(one, other):
    assert tokenize(one) == tokenize(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("x-y", "x+y"), ("3-4", "34"), ("1.5", "15"), ("x^2", "x2"), ("1,20", "120"), ("a<b", "a>b")],
)
def test_what_makes_a_difference(one, other):
    assert tokenize(one) != tokenize(other)


QUESTION = "A train travels 270 miles in 3 hours. How far does it travel in the next 5 hours?"


def test_exact_near_and_neither():
    train = rows("Something else.", QUESTION, QUESTION.upper())
    found = overlap(
        train,
        rows(
            QUESTION.replace(" ", "  "),
            QUESTION.replace("5", "7"),
            "A train travels 270 miles in 3 hours by day and then stops to rest for a night",
            "How many are left in all now then?",
            "",
        ),
    )
    assert [(pair.train_index, pair.test_index, pair.share) for pair in found.exact] == [(1, 0, 1)]
    (near,) = found.near
    # 18 tokens, 11 8-grams; 5 is the last but one, in two of them
    assert (near.train_index, near.test_index, near.share) == (1, 1, 9 / 11)
    assert near.train_question == QUESTION


def test_short_questions_are_exact_or_nothing():
    assert len(overlap(rows("What is 1+1?"), rows("what is 1 + 1")).exact) == 1
    nothing = overlap(rows("What is 1+1?"), rows("What is 1+2?", "What is 1"))
    assert nothing == ([], [])


def test_a_question_inside_a_longer_one_is_near():
    found = overlap(rows(f"Read with care. {QUESTION} Give a number."), rows(QUESTION))
    assert [pair.share for pair in found.near] == [1.0]


@given(questions=st.lists(st.text("ab1+ ", min_size=1), max_size=8))
def test_every_question_is_in_its_own_set(questions):
    found = overlap(rows(*questions), rows(*questions))
    assert found.near == []
    assert [pair.test_index for pair in found.exact] == [
        index for index, question in enumerate(questions) if tokenize(question)
    ]
    assert all(pair.train_index <= pair.test_index for pair in found.exact)


def test_no_real_test_question_is_in_gsm8ks_training_set(real_data):
    train = make_task("gsm8k", {"path": real_data}).rows("train")
    found = {
        name: overlap(train, make_task(name, {"path": real_data}).rows("test"))
        for name in ("gsm8k", "math500")
    }
    assert [(len(result.exact), len(result.near)) for result in found.values()] == [(0, 1), (0, 0)]


def test_amc23_is_largely_in_gaokao2023en(real_data):
    amc, gaokao = (
        make_task(name, {"path": real_data}).rows("test") for name in ("amc23", "gaokao2023en")
    )
    found = overlap(amc, gaokao)
    assert (len(found.exact), len(found.near)) == (7, 18)
    assert len({pair.train_index for pair in found.exact + found.near}) == 25


def test_the_script_prints_a_table(real_data):
    command = [sys.executable, str(SCRIPT), str(real_data)]
    out = subprocess.run(command, check=True, capture_output=True, encoding="utf-8").stdout
    assert "| gsm8k train | college_math | 2818 | 0 | 0 |" in out
    assert "| amc23 | gaokao2023en | 385 | 7 | 18 |" in out
    assert "## gaokao2023en in amc23" in out


def test_the_script_says_what_is_missing(tmp_path):
    command = [sys.executable, str(SCRIPT), str(tmp_path)]
    result = subprocess.run(command, check=False, capture_output=True, encoding="utf-8")
    assert result.returncode == 1
    assert "no train.jsonl or gsm8k/train.jsonl in it" in result.stderr
    assert result.stderr.count("\n") == 1
