"""A training that is stopped, misled, killed and limited, and what goes on from there."""

import signal
from pathlib import Path

import pytest

from tests.integration.test_training import assert_same_v
from tests.integration.training import (
    NUM_STEPS,
    SMALL,
    Started,
    kept_step,
    story,
    train,
    vector_steps,
)
from tinylora_rl.runs.directory import RunDirectory
from tinylora_rl.runs.status import read_status
from tinylora_rl.runs.vector_log import read_vectors

pytestmark = pytest.mark.e2e


@pytest.mark.timeout(1500)
def test_asked_to_stop_damaged_misled_and_killed_it_ends_at_the_same_v(undisturbed, tmp_path):
    """Four starts of one command; each goes on where the one before was stopped."""
    # in fp32 the worker's own merge is the trainer's, so the run is the same by either way of sync
    overrides = (*SMALL, "sync=vector", f"trainer.total_training_steps={NUM_STEPS}")
    run = RunDirectory(tmp_path / "run")

    # SIGUSR1 after the second update: its step, or the next, is finished
    started = Started(run.path, *overrides)
    started.wait_for(lambda: 2 in vector_steps(run))
    started.signal(signal.SIGUSR1)
    stopped = started.finished()
    assert stopped.code == 75, story(stopped)
    newest = kept_step(run)
    assert newest in (2, 3)
    assert f"stopped after step {newest}: SIGUSR1" in stopped.console
    assert sorted(stopped.steps) == vector_steps(run) == list(range(1, newest + 1))
    assert read_status(run.path).state == "stopped"
    assert not started.left_behind()

    # the newest checkpoint is damaged, other files are torn; then the rewards of step 4 are NaN
    damaged = run.checkpoints / f"global_step_{newest}" / "data.pt"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    for file in (run.vectors, run.metrics):
        with file.open("a") as torn:
            torn.write('{"step": 9, "v": [')
    (run.path / ".adapter.new").mkdir()
    misled = train(
        run.path,
        *overrides,
        "reward.custom_reward_function.path=pkg://tests.integration.faults.reward_nan",
    )
    assert misled.code == 1, story(misled)
    assert f"global_step_{newest} is damaged (data.pt has" in misled.console
    assert f"resuming from     {run.checkpoints}/global_step_{newest - 1}" in misled.console
    assert "the run failed: step 4: the reward of sample" in misled.console
    assert "kept              all up to step 3; the same command goes on" in misled.console
    assert kept_step(run) == 3
    assert vector_steps(run) == [1, 2, 3]

    # kill -9 when the fourth update is made, about when its checkpoint is written
    started = Started(run.path, *overrides)
    started.wait_for(lambda: 4 in vector_steps(run))
    started.kill()
    assert not started.left_behind()
    assert kept_step(run) in (3, 4)

    finished = train(run.path, *overrides)
    assert finished.code == 0, story(finished)
    assert_same_v(finished, undisturbed)


@pytest.mark.parametrize("moment", ["start", "rollout", "update"])
def test_sigterm_ends_a_run_at_once_and_what_is_kept_goes_on(undisturbed, tmp_path, moment):
    overrides = (*SMALL, "trainer.total_training_steps=3")
    fault = "actor_rollout_ref.model.external_lib=tests.integration.faults.slow_update"
    started = Started(tmp_path / "run", *overrides, fault)
    run = started.run
    happened = {
        "start": lambda: "TaskRunner" in written(run.log),  # Ray and verl are really up
        "rollout": lambda: '"step":' in written(run.metrics),  # of step 1: the next is sampled
        "update": lambda: "the second update has its gradient" in written(run.log),
    }
    started.wait_for(happened[moment])
    started.signal(signal.SIGTERM)
    stopped = started.finished(timeout_s=9)  # before the update in progress would end
    assert stopped.code == 75, story(stopped)
    assert not started.left_behind()
    if moment == "start":
        return
    assert kept_step(run) == 1
    assert vector_steps(run) == [1]
    finished = train(run.path, *overrides)
    assert finished.code == 0, story(finished)
    ours, true = (read_vectors(end.run.vectors) for end in (finished, undisturbed))
    for step in (1, 2, 3):
        assert ours[step][0] == pytest.approx(true[step][0], abs=1e-5)


def test_the_clock_stops_a_run_between_two_steps(tmp_path):
    limit = "run.time_limit_s=160"  # more than starting takes, less than so many steps
    finished = train(tmp_path / "run", *SMALL, "trainer.total_training_steps=1000", limit)
    assert finished.code == 75, story(finished)
    assert f"stopped after step {max(finished.steps)}: {limit}" in finished.console
    assert kept_step(finished.run) == max(finished.steps)


def written(file: Path) -> str:
    return file.read_text(errors="replace") if file.exists() else ""
