import itertools

import numpy as np
import pytest

from tinylora_rl.evaluation.plan import (
    BASE,
    EvaluationPlan,
    Policy,
    Question,
    Sampling,
    first_difference,
)
from tinylora_rl.evaluation.scores import _majority, pass_at_k, score
from tinylora_rl.evaluation.tables import console_lines, to_json, to_markdown
from tinylora_rl.rewards import Gold

JUDGES = ("strict", "flexible")


def plan(**overrides) -> EvaluationPlan:
    values = {
        "model": "m",
        "policies": (Policy(name=BASE), Policy(name="a", digest="d")),
        "benchmarks": {"gsm8k": "digest"},
        "sampling": Sampling(greedy=True, num_samples=3),
        "judges": JUDGES,
        "headline": {"gsm8k": "strict"},
        "weights": "factors",
        "settings": {"dtype": "float32"},
    }
    return EvaluationPlan(**{**values, **overrides})


def item(policy, index, sample, verdict, answer="1", *, greedy=False, flexible="right", tokens=10):
    return {
        "policy": policy,
        "benchmark": "gsm8k",
        "index": index,
        "greedy": greedy,
        "sample": sample,
        "response_tokens": tokens,
        "truncated": tokens == 99,
        "overlong": False,
        "judged": {
            "strict": {"verdict": verdict, "answer": answer},
            "flexible": {"verdict": flexible, "answer": answer},
        },
    }


def complete() -> list[dict]:
    items = []
    for policy, index in itertools.product((BASE, "a"), range(4)):
        greedy = "right" if policy == "a" and index < 3 else "no_answer"
        answer = None if greedy == "no_answer" else "7"
        items.append(item(policy, index, 0, greedy, answer, greedy=True, tokens=99))
        for sample in range(3):
            # item 0: two of three say 5, which is right; item 1: three answers, the first is right
            verdict, answer = "wrong", str(sample)
            if policy == "a" and index == 0:
                verdict, answer = (("wrong", "4"), ("right", "5"), ("right", "5.0"))[sample]
            if policy == "a" and index == 1 and sample == 0:
                verdict = "right"
            items.append(item(policy, index, sample, verdict, answer))
    return items


def test_figures_of_a_small_evaluation():
    scores = {(s.policy, s.greedy): s for s in score(complete(), plan(), 0.95)}
    greedy, sampled = scores["a", True], scores["a", False]
    assert greedy.judges["strict"].accuracy.value == 0.75
    assert greedy.judges["strict"].no_answer == 0.25
    assert greedy.judges["strict"].against_base.num_better == 3
    assert greedy.truncated == 1.0
    assert sampled.num_samples == 3
    assert sampled.judges["strict"].accuracy.value == pytest.approx(3 / 12)
    # the two writings of 5 are one vote each for the same answer; of single votes the first counts
    assert sampled.judges["strict"].majority_at_k.value == 0.5
    assert sampled.judges["strict"].pass_at_k.value == 0.5
    assert sampled.judges["flexible"].accuracy.value == 1.0
    assert scores[BASE, True].judges["strict"].against_base is None


def test_the_order_of_the_items_does_not_matter():
    assert score(reversed(complete()), plan(), 0.95) == score(complete(), plan(), 0.95)


def test_a_missing_response_is_an_error_and_not_a_smaller_denominator():
    with pytest.raises(ValueError, match="responses of a are missing"):
        score([i for i in complete() if (i["policy"], i["index"]) != ("a", 3)], plan(), 0.95)


@pytest.mark.parametrize("dropped", [{"index": 3}, {"index": 1, "sample": 2}, {"greedy": False}])
def test_a_missing_sample_is_an_error_whosever_it_is(dropped):
    left = [i for i in complete() if any(i[key] != value for key, value in dropped.items())]
    left = [i for i in left if "index" in dropped or i["greedy"]]
    if dropped == {"index": 3}:
        left = [i for i in complete() if not (i["index"] == 3 and i["policy"] == "a")]
    with pytest.raises(ValueError, match="are missing"):
        score(left, plan(), 0.95)


def test_equal_answers_vote_together_and_by_their_majority():
    def judged(*pairs):
        return [{"verdict": verdict, "answer": answer} for verdict, answer in pairs]

    # one unit is wrong, but most of those who say 72 are right
    assert _majority(judged(("wrong", "72 m"), ("right", "72"), ("right", "72.0"), ("wrong", "5")))
    assert not _majority(judged(("right", "7"), ("wrong", "5"), ("wrong", "5.0")))
    assert not _majority(judged(("no_answer", None), ("timed_out", None)))


def test_pass_at_k_is_the_chance_over_all_choices_of_k_samples():
    right = np.array([[1, 0, 0, 1, 0], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1]], dtype=float)
    for k in range(1, 6):
        chances = [
            np.mean([any(row[list(chosen)]) for chosen in itertools.combinations(range(5), k)])
            for row in right
        ]
        assert pass_at_k(right, k) == pytest.approx(chances)


def test_tables_name_every_policy_judge_and_interval():
    scores = score(complete(), plan(), 0.95)
    text = to_markdown(scores, plan(), 0.95)
    assert "| a | 75.0 [30.1, 95.4] | 75.0 |" in text
    assert "| a | greedy | strict | 75.0 [30.1, 95.4] |" in text
    assert "3 samples" in text
    assert to_json(scores, plan(), 0.95)["scores"][0]["judges"]["strict"]["accuracy"]["high"] > 0
    assert any("base 0.0" in line for line in console_lines(scores, plan()))


def test_policies_are_asked_with_the_same_seeds_and_samples_with_different_ones():
    question = Question(
        benchmark="gsm8k",
        index=4,
        text="",
        gold=Gold(answer="1"),
        prompt_token_ids=(1,),
    )
    by_policy = [
        [plan().sampling_params(key) for key, _ in plan().keys(policy, [question])]
        for policy in plan().policies
    ]
    assert by_policy[0] == by_policy[1]
    seeds = [params.get("seed") for params in by_policy[0]]
    assert seeds[0] is None  # greedy
    assert len(set(seeds[1:])) == 3
    assert by_policy[0][0]["temperature"] == 0


@pytest.mark.parametrize(
    ("field", "value"),
    [("num_samples", -1), ("temperature", 0), ("top_p", 0), ("top_p", 1.1)],
)
def test_sampling_that_cannot_be_is_refused(field, value):
    with pytest.raises(ValueError, match=f"{field}="):
        Sampling(**{"num_samples": 1, field: value})


def test_nothing_to_draw_is_refused():
    with pytest.raises(ValueError, match="nothing to draw"):
        Sampling(greedy=False, num_samples=0)


def test_plans_differ_by_name():
    here, there = plan().to_dict(), plan(sampling=Sampling(num_samples=4)).to_dict()
    assert first_difference(here, here) is None
    assert first_difference(here, there) == "sampling.num_samples=3 here, 4 there"
