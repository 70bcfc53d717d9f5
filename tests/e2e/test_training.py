"""One real training on verl, vLLM and Ray: what it computes, and that it survives kill -9."""

import json
import math
import os
import signal
import subprocess
import time

import psutil
import pytest
from safetensors.torch import load_file

from tests.e2e.training import REPOSITORY, SMALL, Finished, command, environment, story, train

pytestmark = pytest.mark.e2e
NUM_STEPS = 3


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Finished:
    finished = train(
        tmp_path_factory.mktemp("undisturbed"), *SMALL, f"trainer.total_training_steps={NUM_STEPS}"
    )
    assert finished.code == 0, story(finished)
    return finished


def test_sampler_and_learner_are_one_policy_and_not_the_base(undisturbed):
    steps = undisturbed.steps
    assert sorted(steps) == [1, 2, 3]
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
    checkpoint = run.checkpoints / f"global_step_{NUM_STEPS}"
    kilobytes = sum(file.stat().st_size for file in checkpoint.rglob("*") if file.is_file()) / 1024
    assert kilobytes < 100
    assert run.figure.stat().st_size > 10_000
    assert "trainer_mode" in run.config.read_text()
    assert "step    3/3" in undisturbed.console
    assert "trained numbers   13 (52 bytes of payload)" in undisturbed.console


def ray_processes() -> set[int]:
    names = ("raylet", "gcs_server", "ray::", "VLLM::")
    return {
        process.pid
        for process in psutil.process_iter(["cmdline"])
        if any(name in " ".join(process.info["cmdline"] or []) for name in names)
    }


def test_a_signal_ends_the_run_with_75_and_leaves_no_process_behind(tmp_path):
    before = ray_processes()
    process = subprocess.Popen(
        command(tmp_path, *SMALL),
        cwd=REPOSITORY,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    for line in process.stdout:
        if "starting Ray" in line:
            break
    deadline_s = time.monotonic() + 120
    while "TaskRunner" not in (tmp_path / "log.txt").read_text():  # Ray and verl are really up
        assert time.monotonic() < deadline_s
        time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=120)
    assert process.returncode == 75
    deadline_s = time.monotonic() + 30
    while (left := ray_processes() - before) and time.monotonic() < deadline_s:
        time.sleep(0.5)
    assert not left


def test_killed_between_steps_and_resumed_it_ends_at_the_same_v(undisturbed, tmp_path):
    # in fp32 the worker's own merge is the trainer's, so the run is the same by either way of sync
    overrides = (*SMALL, "sync=vector", f"trainer.total_training_steps={NUM_STEPS}")
    process = subprocess.Popen(
        command(tmp_path, *overrides),
        cwd=REPOSITORY,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    first_step = tmp_path / "checkpoints" / "latest_checkpointed_iteration.txt"
    deadline_s = time.monotonic() + 400
    while not (first_step.exists() and first_step.read_text()):
        assert process.poll() is None, "the run ended before its first checkpoint"
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    killed_at = int(first_step.read_text())
    assert killed_at < NUM_STEPS, "killed too late for the resumed run to have something to do"

    resumed = train(tmp_path, *overrides)
    assert resumed.code == 0, story(resumed)
    assert resumed.steps[NUM_STEPS]["sync/bytes"] == 52
    assert f"step    {NUM_STEPS}/{NUM_STEPS}" in resumed.console
    # the line of the step that the kill interrupted after its checkpoint may be missing, no other
    assert set(resumed.steps) >= set(range(1, NUM_STEPS + 1)) - {killed_at}
    ours, true = (
        load_file(str(finished.run.adapter / "adapter.safetensors"))["v"]
        for finished in (resumed, undisturbed)
    )
    # The same samples, seeds and gradients; only the order of float additions inside the rollout
    # may differ. A lost Adam state, data position or seed moves v by about lr = 2e-2.
    assert float((ours - true).abs().max()) < 1e-5
