"""One real supervised run, as a user starts it: verl's trainer, then vLLM on the held-out rows."""

import subprocess
import sys

import pytest
from omegaconf import OmegaConf

from tests.integration.training import REPOSITORY, Finished, environment, story
from tinylora_rl.artifact import read_manifest
from tinylora_rl.runs.directory import RunDirectory, held_out
from tinylora_rl.runs.status import read_status

pytestmark = pytest.mark.e2e
NUM_STEPS = 20


def sft(run_dir, *overrides: str) -> Finished:
    process = subprocess.run(
        [sys.executable, "-m", "tinylora_rl.sft", f"run.dir={run_dir}", *overrides],
        cwd=REPOSITORY,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=540,
        check=False,
    )
    return Finished(process.returncode, process.stdout, RunDirectory(run_dir))


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Finished:
    finished = sft(
        tmp_path_factory.mktemp("sft"), "+recipe=arithmetic_cpu", f"sft.steps={NUM_STEPS}"
    )
    assert finished.code == 0, story(finished)
    return finished


def test_imitating_worked_answers_teaches_to_work_them(finished):
    steps = finished.steps
    assert sorted(steps) == list(range(NUM_STEPS + 1))
    assert steps[NUM_STEPS]["train/loss"] < 0.5 * steps[1]["train/loss"]
    assert steps[NUM_STEPS]["tinylora/num_parameters"] == 13
    # the base's accuracies are those that were measured when it was built (measured.json)
    before, after = held_out(steps[0]), held_out(steps[NUM_STEPS])
    assert before["greedy"] == pytest.approx(0.09, abs=0.05)
    assert before["sampled"] == pytest.approx(0.52, abs=0.07)
    assert after["greedy"] > 0.9
    assert after["sampled"] > 0.8
    assert {"val-core/arithmetic/acc/mean@2", "val-core/arithmetic_greedy/acc/mean@1"} <= set(
        steps[NUM_STEPS]
    )


def test_the_run_directory_is_a_trainings(finished):
    run = finished.run
    config = OmegaConf.load(run.config)
    assert config.command == "sft"
    assert config.trainer.total_training_steps == NUM_STEPS
    assert config.actor_rollout_ref.actor.optim.lr == 5e-3
    assert "algorithm" not in config  # nothing that was not read
    manifest = read_manifest(run.adapter)
    assert manifest["payload_bytes"] == 52
    provenance = manifest["provenance"]
    assert (provenance["recipe"], provenance["data"]) == ("arithmetic_cpu", "arithmetic")
    assert (provenance["reward"], provenance["global_step"]) == ("sft", NUM_STEPS)
    assert held_out(provenance["metrics"]) == held_out(finished.steps[NUM_STEPS])
    status = read_status(run.path)
    assert status is not None
    assert status.is_finished
    assert (status.verb, status.total_steps) == ("sft", NUM_STEPS)
    assert run.figure.stat().st_size > 10_000
    assert run.samples_page.stat().st_size > 100_000
    assert "held-out greedy" in finished.console
    assert "trained numbers   13 (52 bytes of payload)" in finished.console
