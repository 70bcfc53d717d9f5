import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.rewards.test_extract import cpu_seconds
from tinylora_rl.rewards.extract import EXTRACTORS
from tinylora_rl.rewards.judges import (
    JUDGES,
    MAX_ANSWER_CHARS,
    Gold,
    Judged,
    is_isolated,
    judge,
    judge_named,
)

EXACT = [name for name in JUDGES if not is_isolated(name)]


def test_a_judge_is_named_after_its_parts():
    assert list(JUDGES) == ["strict", "flexible", "boxed", "flexible_symbolic", "boxed_symbolic"]
    assert list(EXTRACTORS) == EXACT
    for name, chosen in JUDGES.items():
        assert name == chosen.extractor + ("_symbolic" if chosen.is_isolated else "")
        assert chosen.extract is EXTRACTORS[chosen.extractor]
        assert judge_named(name) is chosen


@pytest.mark.parametrize("function", [judge_named, is_isolated, lambda name: judge(name, "", FIVE)])
def test_unknown_judge(function):
    choices = "strict, flexible, boxed, flexible_symbolic, boxed_symbolic"
    with pytest.raises(ValueError, match=f"judge='loose': no such judge; choose from {choices}"):
        function("loose")


FIVE = Gold(answer="5")


@pytest.mark.parametrize(
    ("name", "response", "verdict", "answer"),
    [
        ("strict", "it is 5\n#### 5", "right", "5"),
        ("strict", "it is 5\n#### 6", "wrong", "6"),
        ("strict", "it is 5", "no_answer", None),
        ("strict", r"\boxed{5}", "no_answer", None),
        ("flexible", "it is 5.", "right", "5"),
        ("flexible", "it is 6", "wrong", "6"),
        ("flexible", "it is", "no_answer", None),
        ("flexible_symbolic", "it is 10/2", "right", "10/2"),
        ("flexible_symbolic", r"it is \sqrt{25}", "right", r"\sqrt{25}"),
        ("flexible", r"it is \sqrt{25}", "wrong", r"\sqrt{25}"),
        ("boxed", r"\boxed{ 5 }", "right", " 5 "),
        ("boxed", r"\boxed{2+3}", "wrong", "2+3"),
        ("boxed", r"\boxed{}", "no_answer", None),
        ("boxed", r"\boxed{ }", "no_answer", None),
        ("boxed", r"\boxed{5", "no_answer", None),
        ("boxed", "5", "no_answer", None),
        ("boxed_symbolic", r"\boxed{2+3}", "right", "2+3"),
        ("boxed_symbolic", r"\boxed{2+4}", "wrong", "2+4"),
        ("boxed_symbolic", "", "no_answer", None),
    ],
)
def test_verdict_and_answer(name, response, verdict, answer):
    assert judge(name, response, FIVE) == Judged(verdict=verdict, answer=answer)


def test_tolerance_and_order_reach_the_graders():
    for name in ("boxed", "boxed_symbolic"):
        assert judge(name, r"\boxed{4.3}", Gold(answer="4.2", tolerance=0.1)).verdict == "right"
        assert judge(name, r"\boxed{4.4}", Gold(answer="4.2", tolerance=0.1)).verdict == "wrong"
        assert judge(name, r"\boxed{2,1}", Gold(answer="1,2", unordered=True)).verdict == "right"
        assert judge(name, r"\boxed{2,1}", Gold(answer="1,2")).verdict == "wrong"


@pytest.mark.parametrize("tolerance", [-1, float("inf"), float("nan")])
def test_tolerance_is_checked(tolerance):
    with pytest.raises(ValueError, match=r"tolerance=.*: not a finite number >= 0"):
        Gold(answer="5", tolerance=tolerance)
    assert dataclasses.replace(FIVE, tolerance=0).tolerance == 0


@pytest.mark.parametrize("name", ["boxed", "boxed_symbolic"])
def test_a_long_answer_is_compared_as_text_only(name):
    zeros = "0" * (MAX_ANSWER_CHARS - 1)
    assert judge(name, rf"\boxed{{x+{zeros}}}", Gold(answer=f"x + {zeros}")).verdict == "wrong"
    assert judge(name, rf"\boxed{{x+{zeros}}}", Gold(answer=f"x+{zeros}")).verdict == "right"
    assert cpu_seconds(judge, name, rf"\boxed{{1+{zeros * 100}}}", Gold(answer="1")) < 0.05


@given(st.text(max_size=100), st.text(max_size=20), st.sampled_from(EXACT))
def test_any_text_has_a_verdict_and_repeats_it(response, answer, name):
    gold = Gold(answer=answer)
    judged = judge(name, response, gold)
    assert judged == judge(name, response, gold)
    assert (judged.verdict == "no_answer") == (judged.answer is None)


@given(st.text(alphabet=r"0123456789.,-/()[]{}\^_ abxyzfrcsqt=<>%$", max_size=40))
def test_symbolic_is_never_stricter_than_exact(answer):
    gold = Gold(answer=answer)
    response = rf"\boxed{{{answer}}}"
    exact, symbolic = judge("boxed", response, gold), judge("boxed_symbolic", response, gold)
    assert exact.verdict != "right" or symbolic.verdict == "right"
    assert exact.answer == symbolic.answer
