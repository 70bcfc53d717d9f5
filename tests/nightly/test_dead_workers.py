"""A process of a run dies, its disk fills, its gradient breaks: stated behaviour each time.

What a fast test says of the same: tests/unit/training/test_watchdog.py,
tests/unit/runs/test_full_disk.py and tests/unit/verl_plugin/test_engine.py. scripts/chaos.py kills
at random.
"""

import shutil
import subprocess

import pytest

from tests.integration.training import SMALL, Started, kept_step, story, train, vector_steps
from tests.unit.runs.test_full_disk import NAMESPACE

pytestmark = pytest.mark.e2e
GOES_ON = "the same command goes on from there"


@pytest.mark.parametrize(
    "name",
    [
        "WorkerDict",
        "TinyLoraHttpServer",  # with vLLM's engine inside
        "AgentLoopWorker",
        "RewardLoopWorker",
        "TransferQueueController",
        "SimpleStorageUnit",
        "TaskRunner",
    ],
)
def test_a_dead_actor_ends_the_run_under_its_name(tmp_path, name):
    started = Started(tmp_path / "run", *SMALL, "trainer.total_training_steps=1000")
    started.wait_for(lambda: 2 in vector_steps(started.run))  # step 1 is kept by then
    started.actor(name).kill()
    finished = started.finished()
    assert finished.code == 1, story(finished)
    assert f"the run failed: {name}" in finished.console
    assert " died: " in finished.console
    assert GOES_ON in finished.console
    assert kept_step(finished.run) in (1, 2)
    assert not started.left_behind()


def test_a_gradient_that_is_not_a_number_moves_nothing(tmp_path):
    finished = train(
        tmp_path / "run",
        *SMALL,
        "trainer.total_training_steps=3",
        "actor_rollout_ref.model.external_lib=tests.integration.faults.gradient_nan",
    )
    assert finished.code == 1, story(finished)
    says = "update 2: the gradient of all modules is not finite; v was not moved"
    assert says in finished.console
    assert f"all up to step 1; {GOES_ON}" in finished.console
    assert vector_steps(finished.run) == [1]


def test_a_disk_that_fills_up_is_named(tmp_path):
    """The run directory is a disk of 4 MiB, in the run's own mount namespace."""
    if shutil.which("unshare") is None:
        pytest.skip("no unshare")
    if subprocess.run([*NAMESPACE, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine allows no mount namespaces")
    run = tmp_path / "run"
    run.mkdir()
    mount = f'mount -t tmpfs -o size=4m tmpfs {run} && exec "$@"'
    started = Started(
        run,
        *SMALL,
        "trainer.total_training_steps=1000",
        prefix=[*NAMESPACE, "sh", "-c", mount, "sh"],
    )
    inside = started.view(run)
    started.wait_for(lambda: (inside / "checkpoints/global_step_1/manifest.json").exists())
    subprocess.run(["dd", "if=/dev/zero", f"of={inside}/ballast"], capture_output=True, check=False)
    finished = started.finished()
    assert finished.code == 1, finished.console
    assert "no space left on the device, " in finished.console
    assert f"all up to step 1; {GOES_ON}" in finished.console
