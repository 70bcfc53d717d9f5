import pytest

from tinylora_rl.verl_plugin.samples import reward_metrics


def graded(score: float, **values: float) -> dict[str, float]:
    return {"score": score, "acc": score, "strict": score, **values}


def test_figures_of_two_groups():
    samples = [
        ("a", graded(1.0, flexible=1.0, no_answer=0.0, timed_out=0.0, grade_s=0.001)),
        ("a", graded(0.0, flexible=1.0, no_answer=1.0, timed_out=0.0, grade_s=0.002)),
        ("b", graded(0.0, flexible=1.0, no_answer=0.0, timed_out=1.0, grade_s=5.0)),
        ("b", graded(0.0, flexible=0.0, no_answer=0.0, timed_out=0.0, grade_s=0.003)),
    ]
    metrics = reward_metrics(samples)
    assert metrics["reward/strict"] == 0.25
    assert metrics["reward/no_answer_frac"] == 0.25
    assert metrics["reward/timeout_frac"] == 0.25
    assert metrics["reward/strict_minus_flexible"] == -0.5
    assert metrics["group/zero_std_frac"] == 0.5
    assert metrics["reward/grade_s/p50"] == pytest.approx(0.0025)
    assert metrics["reward/grade_s/p99"] > 4
    assert "reward/timed_out" not in metrics


def test_a_reward_function_without_our_keys_gives_only_what_it_said():
    assert reward_metrics([("a", {"score": 1.0}), ("b", {"score": 1.0})]) == {
        "reward/score": 1.0,
        "group/zero_std_frac": 1.0,
    }
