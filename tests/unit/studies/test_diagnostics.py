"""What a page says in words, on runs that have the fault and runs that do not."""

import pytest

from tests.unit.studies.made import make_run
from tinylora_rl.studies.diagnostics import HALF_SPACING, diagnose
from tinylora_rl.studies.records import read_run


def rules(tmp_path, **settings):
    return [r.rule for r in diagnose(read_run(make_run(tmp_path / "run", **settings)))]


def test_a_good_run_is_quiet(tmp_path):
    assert rules(tmp_path) == ["quiet"]


def test_a_rate_too_small_to_move_v_is_said_with_its_numbers(tmp_path):
    run = make_run(
        tmp_path / "run",
        accuracy=0.1,
        learning_rate=1e-7,
        metrics={"tinylora/relative_delta_norm": 1e-6, "sync/survival": 1.0},
    )
    (diagnosis,) = diagnose(read_run(run))
    assert (diagnosis.rule, diagnosis.severity) == ("rate_too_small", "error")
    assert "too small to move v: after 12 steps at 1e-07 |dW|/|W| is 1.0e-06" in diagnosis.message
    assert "1.2e-06 in all" in diagnosis.message


def test_an_update_lost_in_rounding_is_too_small_however_large_its_norm(tmp_path):
    metrics = {"tinylora/relative_delta_norm": 2 * HALF_SPACING, "sync/survival": 0.05}
    assert rules(tmp_path, accuracy=0.1, metrics=metrics) == ["rate_too_small"]


@pytest.mark.parametrize(
    "settings",
    [
        {"accuracy": 0.9},  # the reward moves
        {"accuracy": 0.1, "metrics": {"tinylora/relative_delta_norm": 0.05}},  # v moves
        {"accuracy": 0.1, "adapter": {}},  # no v
    ],
)
def test_only_both_together_are_a_rate_too_small(tmp_path, settings):
    metrics = {"tinylora/relative_delta_norm": 1e-6, **settings.pop("metrics", {})}
    if settings.get("adapter") == {}:
        metrics = {}
    assert "rate_too_small" not in rules(tmp_path, metrics=metrics, **settings)


@pytest.mark.parametrize(
    ("metrics", "rule"),
    [
        ({"group/zero_std_frac": 0.95, "critic/score/mean": 0.02}, "no_spread"),
        ({"signal/snr_mean": 0.03}, "noise"),
        ({"training/rollout_probs_diff_mean": 0.05}, "sampler_far"),
        ({"training/rollout_actor_probs_pearson_corr": 0.9}, "sampler_far"),
        ({"sync/canary_actor_diff": 0.2, "sync/canary_policy_distance": 0.1}, "drowned"),
        ({"reward/timeout_frac": 0.05}, "timeouts"),
        ({"reward/no_answer_frac": 0.7}, "no_answer"),
        ({"response_length/clip_ratio": 0.5}, "truncated"),
        ({"reward/strict_minus_flexible": -0.3}, "format"),
    ],
)
def test_each_fault_is_read_from_its_metric(tmp_path, metrics, rule):
    assert rule in rules(tmp_path, metrics=metrics)


def test_groups_without_spread_at_the_top_are_good_news(tmp_path):
    run = make_run(
        tmp_path / "run", metrics={"group/zero_std_frac": 0.9, "critic/score/mean": 0.98}
    )
    diagnoses = {r.rule: r.severity for r in diagnose(read_run(run))}
    assert diagnoses == {"no_spread": "good", "quiet": "good"}


def test_a_run_that_lost_its_reward_collapsed(tmp_path):
    directory = make_run(tmp_path / "run")
    lines = (directory / "metrics.jsonl").read_text().splitlines()
    lines += [f'{{"step": {step}, "critic/score/mean": 0.01}}' for step in range(8, 25)]
    (directory / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    assert "collapse" in [r.rule for r in diagnose(read_run(directory))]


def test_a_short_run_is_not_read(tmp_path):
    assert rules(tmp_path, num_steps=3) == ["short"]


def test_supervised_runs_are_read_by_their_loss(tmp_path):
    metrics = {"tinylora/relative_delta_norm": 1e-6, "train/loss": 2.0}
    assert rules(tmp_path, verb="sft", metrics=metrics) == ["rate_too_small"]
