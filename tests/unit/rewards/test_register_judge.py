"""A user's own judge is one file, and works wherever the name of a judge is accepted."""

import os
from functools import partial

import pytest

from tinylora_rl.errors import ConfigError
from tinylora_rl.rewards import (
    CONTROLS,
    JUDGES,
    Gold,
    GradingError,
    GradingPool,
    Judged,
    compute_score,
    is_isolated,
    judge,
    register_judge,
)

PLUGIN = """
import re
from tinylora_rl.rewards import register_judge

def letter(response):
    found = re.search(r"Answer: ([A-D])", response)
    return found and found[1]

def is_longer(answer, gold):
    return len(answer) > len(gold.answer)

def verdict(answer, gold):
    if answer == "loop":
        while True:
            pass
    if answer == "raise":
        raise RuntimeError("no idea")
    return answer if answer in ("right", "wrong", "no_answer", "timed_out") else answer == "yes"

register_judge("letter", extractor=letter)
register_judge("longer", grader=is_longer)
register_judge("boxed_longer", extractor="boxed", grader=is_longer)
register_judge("verdict", grader=verdict)
"""


@pytest.fixture(scope="module")
def plugin(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("plugin") / "my_judges.py"
    path.write_text(PLUGIN)
    return str(path)


@pytest.fixture(scope="module")
def grade(plugin):
    with GradingPool(num_workers=1, deadline_s=1.0, plugins=[plugin]) as pool:
        yield lambda name, response, gold: pool.grade(response, Gold(answer=gold), [name])


@pytest.mark.parametrize(
    ("name", "response", "gold", "judged"),
    [
        ("letter", "Answer: B", "B", ("right", "B")),
        ("letter", "Answer: C", "B", ("wrong", "C")),
        ("letter", "B", "B", ("no_answer", None)),
        ("longer", "abc", "ab", ("right", "abc")),
        ("longer", "a", "ab", ("wrong", "a")),
        ("longer", " ", "", ("no_answer", None)),
        ("boxed_longer", r"\boxed{abc}", "ab", ("right", "abc")),
        ("boxed_longer", "abc", "ab", ("no_answer", None)),
        ("verdict", "yes", "", ("right", "yes")),
        ("verdict", "no", "", ("wrong", "no")),
        *(("verdict", word, "", (word, word)) for word in ("right", "wrong", "no_answer")),
        ("verdict", "timed_out", "", ("timed_out", "timed_out")),
    ],
)
def test_verdicts(grade, name, response, gold, judged):
    verdict, answer = judged
    assert grade(name, response, gold).judged[name] == Judged(verdict=verdict, answer=answer)
    assert judge(name, response, Gold(answer=gold)) == Judged(verdict=verdict, answer=answer)
    assert is_isolated(name)


@pytest.mark.parametrize(("response", "cause"), [("loop", "deadline"), ("raise", "crash")])
def test_a_judge_that_loops_or_raises_is_timed_out_and_the_next_answer_is_graded(
    grade, response, cause
):
    graded = grade("verdict", response, "")
    assert graded.judged["verdict"] == Judged(verdict="timed_out", answer=None)
    assert graded.failure == cause
    assert grade("verdict", "yes", "").judged["verdict"].verdict == "right"


def test_compute_score_pays_by_it(plugin):
    score = partial(
        compute_score, "quiz", ground_truth="B", judge="letter", plugins=[plugin], num_workers=1
    )
    score = partial(score, log_judges=["flexible", "longer"])
    right, wrong, none = (score(solution_str=text) for text in ("Answer: B", "Answer: C", "?"))
    assert [one["score"] for one in (right, wrong, none)] == [1.0, 0.0, 0.0]
    assert [one["no_answer"] for one in (right, wrong, none)] == [0.0, 0.0, 1.0]
    assert [one["longer"] for one in (right, wrong, none)] == [1.0, 1.0, 0.0]
    assert list(right) == [
        "score",
        "acc",
        "flexible",
        "longer",
        "no_answer",
        "timed_out",
        "grade_s",
    ]
    rows_own = score(solution_str="Answer: B", extra_info={"judge": "verdict"})
    assert (rows_own["score"], rows_own["longer"]) == (0.0, 1.0)


def test_a_loop_is_timed_out_and_not_wrong(plugin):
    score = partial(compute_score, "quiz", "loop", "B", plugins=[plugin], num_workers=1)
    result = score(judge="verdict", log_judges=["flexible"], deadline_s=0.5)
    assert (result["score"], result["timed_out"], result["no_answer"]) == (0.0, 1.0, 0.0)


@pytest.mark.parametrize(
    ("control", "scores"), [("format_only", [1.0, 1.0, 0.0]), ("always_wrong", [0.0] * 3)]
)
def test_controls(plugin, control, scores):
    assert control in CONTROLS
    score = partial(compute_score, "quiz", ground_truth="B", judge="letter", plugins=[plugin])
    results = [score(solution_str=text, control=control) for text in ("Answer: B", "Answer: C", "")]
    assert [result["score"] for result in results] == scores


def test_an_unknown_judge_is_named_with_the_way_to_add_one():
    with pytest.raises(ValueError, match=r"judge='lettre': no such judge; choose .*in plugins"):
        compute_score("quiz", "", "", judge="lettre")
    with pytest.raises(ValueError, match=r"plugins='a.py': a string; write \[a.py\]"):
        compute_score("quiz", "", "", plugins="a.py")
    with pytest.raises(ConfigError, match=r"plugins=/absent.py: /absent.py is no file"):
        compute_score("quiz", "", "", plugins=["/absent.py"])


def test_a_process_imports_the_plugins_of_its_judges_alone(plugin, tmp_path):
    """Another one may import torch, which is more than its memory limit."""
    log, other = tmp_path / "log", tmp_path / "a_method.py"
    other.write_text(
        f"import os\nwith open({str(log)!r}, 'a') as log:\n    log.write(f'{{os.getpid()}} ')\n"
    )
    with GradingPool(num_workers=1, plugins=[str(other), plugin]) as pool:
        for name in ("verdict", "boxed_symbolic"):
            assert pool.grade("yes", Gold(answer="yes"), [name]).failure is None
    assert log.read_text().split() == [str(os.getpid())]


def test_a_judge_of_this_process_alone_cannot_be_graded():
    register_judge("local", grader=lambda answer, gold: True)
    with (
        GradingPool(num_workers=1) as pool,
        pytest.raises(GradingError, match=r"judge='local': no such judge; .* in plugins"),
    ):
        pool.grade("5", Gold(answer="5"), ["local"])


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("strict", {"extractor": "strict"}, "judge='strict': is taken"),
        ("acc", {"extractor": "strict"}, "judge='acc': is taken"),
        ("a/b", {"extractor": "strict"}, "judge='a/b': is taken or no identifier"),
        ("new", {}, "judge='new': does nothing; give an extractor, a grader or both"),
        ("new", {"extractor": "box"}, "extractor='box': no such .* one of strict, flexible, boxed"),
    ],
)
def test_what_cannot_be_registered(name, arguments, message):
    before = dict(JUDGES)
    with pytest.raises(ValueError, match=message):
        register_judge(name, **arguments)
    assert before == JUDGES


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"grader": lambda answer, gold: None}, "the grader returned None; return a bool or one"),
        ({"grader": lambda answer, gold: "maybe"}, "the grader returned 'maybe'; return a bool"),
        ({"extractor": lambda response: 5}, "the extractor returned 5; return str or None"),
    ],
)
def test_a_function_that_returns_something_else(arguments, message):
    register_judge("other", **arguments)
    try:
        with pytest.raises(TypeError, match=f"judge='other': {message}"):
            judge("other", "5", Gold(answer="5"))
    finally:
        del JUDGES["other"]
