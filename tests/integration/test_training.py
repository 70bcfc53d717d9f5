"""One real training on verl, vLLM and Ray: what it computes, and what it survives."""

import json
import math

import pytest
from safetensors.torch import load_file

from tests.integration.training import (
    NUM_STEPS,
    SMALL,
    Finished,
    Started,
    kept_step,
    story,
    train,
    vector_steps,
)
from tinylora_rl.runs.directory import RunDirectory
from tinylora_rl.runs.vector_log import read_vectors

pytestmark = pytest.mark.e2e


def test_sampler_and_learner_are_one_policy_and_not_the_base(undisturbed):
    steps = undisturbed.steps
    assert sorted(steps) == list(range(1, NUM_STEPS + 1))
    for step in (2, 3):  # sampled after v has moved
        row = steps[step]
        assert row["training/rollout_actor_probs_pearson_corr"] > 0.9999
        assert row["training/rollout_probs_diff_max"] < 1e-3  # fp32 on both sides
        assert abs(row["rollout_corr/rollout_is_mean"] - 1) < 1e-3
        assert row["rollout_corr/rollout_is_max"] <= 2.0
        # The policy has left the base by far more than sampler and learner differ. k3 of two
        # policies is about half their mean squared difference of log-probs.
        distance_to_base = math.sqrt(2 * row["actor/kl_loss"])
        distance_to_sampler = math.sqrt(2 * abs(row["rollout_corr/k3_kl"]))
        assert distance_to_base > 0.01
        assert distance_to_base > 20 * distance_to_sampler
    assert steps[1]["actor/kl_loss"] == pytest.approx(
        0, abs=1e-9
    )  # at v = 0 the policy is the reference


def test_thirteen_numbers_are_trained_and_every_sync_is_acknowledged(undisturbed):
    for step, row in undisturbed.steps.items():
        assert row["tinylora/num_parameters"] == 13
        assert row["sync/policy_version"] == step
        assert row["sync/num_acknowledgements"] == 1
        assert row["sync/bytes"] > 1e6  # merged
        assert row["sync/held_share"] == pytest.approx(1, abs=1e-4)
        assert row["sync/canary_actor_diff"] < 1e-3
        assert row["sync/canary_base_distance"] > 20 * row["sync/canary_actor_diff"]
        assert row["tinylora/v_norm"] == pytest.approx(
            math.sqrt(sum(row[f"tinylora/v/{i:02d}"] ** 2 for i in range(13))), rel=1e-4
        )
    # Adam's first step is lr in every coordinate with a gradient
    assert undisturbed.steps[1]["tinylora/v_max_abs"] == pytest.approx(0.02, rel=1e-3)


def test_the_run_directory_is_complete(undisturbed):
    run = undisturbed.run
    manifest = json.loads((run.adapter / "manifest.json").read_text())
    assert manifest["payload_bytes"] == 52
    v = load_file(str(run.adapter / "adapter.safetensors"))["v"]
    assert v.shape == (1, 13)
    assert float(v.norm()) == pytest.approx(
        undisturbed.steps[NUM_STEPS]["tinylora/v_norm"], rel=1e-5
    )
    vectors = read_vectors(run.vectors)
    assert list(vectors) == list(range(1, NUM_STEPS + 1))
    for step, v_GU in vectors.items():  # bit for bit
        saved = run.checkpoints / f"global_step_{step}" / "actor" / "adapter"
        assert v_GU == load_file(str(saved / "adapter.safetensors"))["v"].tolist()
    assert v.tolist() == vectors[NUM_STEPS]
    checkpoint = run.checkpoints / f"global_step_{NUM_STEPS}"
    kilobytes = sum(file.stat().st_size for file in checkpoint.rglob("*") if file.is_file()) / 1024
    assert kilobytes < 100
    assert run.figure.stat().st_size > 10_000
    assert "trainer_mode" in run.config.read_text()
    assert f"step    {NUM_STEPS}/{NUM_STEPS}" in undisturbed.console
    assert "trained numbers   13 (52 bytes of payload)" in undisturbed.console


@pytest.mark.timeout(900)
def test_killed_in_a_step_and_started_again_it_ends_at_the_same_v(undisturbed, tmp_path):
    # in fp32 the worker's own merge is the trainer's, so the run is the same by either way of sync
    overrides = (*SMALL, "sync=vector", f"trainer.total_training_steps={NUM_STEPS}")
    run = RunDirectory(tmp_path / "run")

    # kill -9 when the third update is made, about when its checkpoint is written
    started = Started(run.path, *overrides)
    started.wait_for(lambda: 3 in vector_steps(run))
    started.kill()
    assert not started.left_behind()
    assert kept_step(run) in (2, 3)
    for file in (run.vectors, run.metrics):
        with file.open("a") as torn:
            torn.write('{"step": 9, "v": [')
    (run.path / ".adapter.new").mkdir()

    finished = train(run.path, *overrides)
    assert finished.code == 0, story(finished)
    assert_same_v(finished, undisturbed)


def assert_same_v(finished: Finished, undisturbed: Finished) -> None:
    run = finished.run
    assert finished.steps[NUM_STEPS]["sync/bytes"] == 52
    assert f"step    {NUM_STEPS}/{NUM_STEPS}" in finished.console
    assert sorted(finished.steps) == vector_steps(run) == list(range(1, NUM_STEPS + 1))
    assert not list(run.path.glob(".adapter.*"))
    ours, true = (read_vectors(end.run.vectors) for end in (finished, undisturbed))
    for step, v_GU in true.items():
        # The same samples, seeds and gradients. A lost Adam state, data position or seed moves v by
        # about lr = 2e-2; the sampler's own merge may round a last bit otherwise.
        assert ours[step][0] == pytest.approx(v_GU[0], abs=1e-5)
    saved = load_file(str(run.adapter / "adapter.safetensors"))["v"]
    assert saved.tolist() == ours[NUM_STEPS]
