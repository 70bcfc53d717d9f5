from functools import partial

import pytest

from tinylora_rl.rewards import CONTROLS, compute_score

RIGHT, WRONG, NONE = "#### 72", "#### 73", "I do not know."
grade = partial(compute_score, "openai/gsm8k", ground_truth="72")


def test_the_names():
    assert list(CONTROLS) == ["format_only", "random", "always_wrong"]


@pytest.mark.parametrize(
    ("control", "scores"),
    [(None, [1.0, 0.0, 0.0]), ("format_only", [1.0, 1.0, 0.0]), ("always_wrong", [0.0] * 3)],
)
def test_scores(control, scores):
    results = [grade(solution_str=text, control=control) for text in (RIGHT, WRONG, NONE)]
    assert [result["score"] for result in results] == scores


@pytest.mark.parametrize("control", list(CONTROLS))
def test_a_control_changes_the_score_alone(control):
    for text in (RIGHT, WRONG, NONE):
        plain, controlled = grade(solution_str=text), grade(solution_str=text, control=control)
        assert list(plain) == list(controlled)
        for key in plain.keys() - {"score", "grade_s"}:
            assert plain[key] == controlled[key], key
        assert controlled["score"] in (0.0, 1.0)


def test_format_only_asks_the_chosen_judge():
    pay = partial(grade, control="format_only", solution_str=r"\boxed{1}")
    assert [pay(judge=name)["score"] for name in ("boxed", "strict")] == [1.0, 0.0]


def coins(num=2000, **changes):
    """The coins of `num` samples that differ in their sample_seed alone, unless told otherwise."""
    kwargs = {"solution_str": RIGHT, "control": "random", **changes}
    return [
        grade(extra_info={"split": "train", "index": 3, "sample_seed": i}, **kwargs)["score"]
        for i in range(num)
    ]


def test_random_is_a_fair_coin_that_can_be_tossed_again():
    heads = coins()
    assert abs(sum(heads) / 2000 - 0.5) < 0.05  # 4.5 standard deviations
    assert heads == coins()


def test_random_does_not_know_the_answer():
    right, wrong = coins(), coins(solution_str=WRONG)
    agreement = sum(a == b for a, b in zip(right, wrong, strict=True)) / 2000
    assert abs(agreement - 0.5) < 0.05


@pytest.mark.parametrize("what", ["seed", "index", "split", "sample_seed", "solution_str"])
def test_random_depends_on(what):
    def toss(i):
        info = {"split": "train", "index": 0, "sample_seed": 0}
        kwargs = {"solution_str": RIGHT, "seed": 0}
        (info if what in info else kwargs)[what] = str(i)
        return grade(extra_info=info, control="random", **kwargs)["score"]

    assert {toss(i) for i in range(40)} == {0.0, 1.0}


def test_random_without_a_sample_seed_pays_equal_texts_the_same():
    """The documented consequence of running without the agent loop that supplies it."""
    toss = partial(grade, control="random", extra_info={"split": "train", "index": 3})
    assert len({toss(solution_str=RIGHT)["score"] for _ in range(40)}) == 1
    assert len({toss(solution_str=f"{RIGHT} {i}")["score"] for i in range(40)}) == 2


def test_random_takes_any_text():
    assert grade(solution_str="\ud800 \x00", control="random")["score"] in (0.0, 1.0)
