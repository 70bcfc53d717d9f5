"""Sweeps as a user runs them, over a run that only counts (`sweep_app`)."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tinylora_rl.runs.directory import read_metrics
from tinylora_rl.runs.status import read_status

REPOSITORY = Path(__file__).parents[3]
POINTS = ("+recipe=arithmetic_cpu", "adapter.u=1,4", "seed=0,1", "trainer.total_training_steps=4")


def command(folder: Path, *overrides: str) -> list[str]:
    module = [sys.executable, "-m", "tests.unit.sweeps.sweep_app"]
    return [*module, "-m", f"hydra.sweep.dir={folder}", *overrides]


def swept(folder: Path, *overrides: str) -> tuple[int, str]:
    process = subprocess.run(
        command(folder, *overrides),
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    return process.returncode, process.stdout


def runs_of(folder: Path) -> dict[str, Path]:
    """{name before the settings that all points share: directory}"""
    return {path.name.partition("__trainer")[0]: path for path in folder.glob("*/*")}


def wait_for(condition, seconds: float = 60) -> None:
    deadline_s = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


def test_every_point_runs_once_and_a_second_start_skips_what_is_finished(tmp_path):
    code, said = swept(tmp_path, *POINTS)
    assert code == 0, said
    assert "sweep             4 runs: 0 finished, 4 to do" in said
    assert "minutes on this CPU, assuming" in said
    assert "[4/4] seed-1__u-4   done   step    4/4" in said
    runs = runs_of(tmp_path)
    assert sorted(runs) == ["seed-0__u-1", "seed-0__u-4", "seed-1__u-1", "seed-1__u-4"]
    assert {path.parent.name for path in runs.values()} == {"arithmetic_cpu"}
    for path in runs.values():
        assert read_status(path).is_finished
        assert [row["step"] for row in read_metrics(path / "metrics.jsonl")] == [1, 2, 3, 4]
        assert (path / "console.txt").read_text() == "from step 0\n"
    assert "seed: 1\n" in (runs["seed-1__u-4"] / "config.yaml").read_text()

    # one seed more, in another order of overrides: the four are not run again
    code, said = swept(tmp_path, *reversed([*POINTS[:2], "seed=0,1,2", POINTS[3]]))
    assert code == 0, said
    assert "6 runs: 4 finished, 2 to do" in said
    assert "6 finished" in said.splitlines()[-2]
    assert (runs["seed-0__u-1"] / "console.txt").read_text() == "from step 0\n"


def test_a_stopped_sweep_ends_with_75_and_the_same_command_continues(tmp_path):
    overrides = (*POINTS, "+counting.pace_s=0.5")
    process = subprocess.Popen(
        command(tmp_path, *overrides),
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    second = "seed-1__u-1__counting.pace_s-0.5"

    def is_under_way() -> bool:
        path = runs_of(tmp_path).get(second)
        return path is not None and len(read_metrics(path / "metrics.jsonl")) > 0

    wait_for(is_under_way)
    os.killpg(process.pid, signal.SIGINT)  # ctrl-C: the terminal's whole group gets it
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 75, said
    assert "1 finished, 1 stopped, 2 not begun; the same command continues" in said
    stopped = read_status(runs_of(tmp_path)[second])
    assert (stopped.state, stopped.exit_code) == ("stopped", 75)
    assert 0 < stopped.steps < 4

    code, said = swept(tmp_path, *overrides)
    assert code == 0, said
    assert "4 runs: 1 finished, 3 to do, 1 of them begun" in said
    runs = runs_of(tmp_path)
    assert all(read_status(path).is_finished for path in runs.values())
    console = (runs[second] / "console.txt").read_text()
    assert console.endswith(f"from step {stopped.steps}\n")
    steps = (runs[second] / "metrics.jsonl").read_text().splitlines()
    assert len(steps) == 4  # none was taken twice


def test_a_killed_point_counts_as_unfinished(tmp_path):
    overrides = (
        "+recipe=arithmetic_cpu",
        "seed=0",
        "trainer.total_training_steps=2",
        "+counting.pace_s=6",
    )
    process = subprocess.Popen(
        command(tmp_path, *overrides), cwd=REPOSITORY, stdout=subprocess.DEVNULL
    )
    wait_for(lambda: any((path / "status.json").exists() for path in tmp_path.glob("*/*")))
    (point,) = tmp_path.glob("*/*")
    process.kill()  # the sweep alone: its point lives on, and is not started a second time
    process.wait()
    code, said = swept(tmp_path, *overrides)
    assert code == 75
    assert "1 runs: 0 finished, 1 running elsewhere, 0 to do" in said
    wait_for(lambda: read_status(point).is_finished)
    assert swept(tmp_path, *overrides)[0] == 0


@pytest.mark.parametrize("keep_going", [True, False])
def test_a_failed_point_is_told_and_stops_the_others_only_on_demand(tmp_path, keep_going):
    fails = ("+counting.fails_at_u=1", f"hydra.launcher.keep_going={str(keep_going).lower()}")
    code, said = swept(tmp_path, *POINTS, "seed=0", *fails)
    assert code == 1
    assert "failed with exit code 2: error: adapter.u=1: fails here; choose another" in said
    counted = "1 failed, 1 finished" if keep_going else "1 failed, 1 not begun"
    assert f"sweep             {counted}; the same command continues" in said
    states = [read_status(path).state for path in tmp_path.glob("*/*")]
    assert sorted(states) == (["failed", "finished"] if keep_going else ["failed"])


def test_a_sweep_that_cannot_work_is_refused_before_a_point_starts(tmp_path):
    for overrides, said in (
        (("sweep=nothing",), "error: sweep=nothing: no such study"),
        ((*POINTS, "run.dir=here"), "error: run.dir: each point of a sweep has its own"),
        ((*POINTS, "adapter.width=1,2"), "adapter.width"),
        ((*POINTS, "hydra/launcher=ray_jobs", "hydra.launcher.num_parallel=0"), "num_parallel=0"),
    ):
        code, output = swept(tmp_path, *overrides)
        assert code == 2, output
        assert said in output
        assert "Traceback" not in output
    assert not list(tmp_path.rglob("console.txt"))


def test_a_plan_runs_nothing(tmp_path):
    code, said = swept(tmp_path, *POINTS, "hydra/launcher=plan")
    assert code == 75
    assert "4 runs: 0 finished, 4 to do" in said
    assert "sweep             4 not begun" in said
    assert not list(tmp_path.iterdir())


def test_a_study_without_m_is_refused(tmp_path):
    process = subprocess.run(
        [sys.executable, "-m", "tests.unit.sweeps.sweep_app", "sweep=x", f"run.dir={tmp_path}"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert process.returncode == 2
    assert process.stderr == "error: sweep=x: a study is many runs; give -m too\n"


def test_a_sweep_through_submitits_launcher(tmp_path):
    """`submitit_local` is `submitit_slurm` with processes in SLURM's place."""
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    overrides = (
        *("+recipe=arithmetic_cpu", "adapter.u=1,4", "seed=0", "+counting.fails_at_u=4"),
        *("hydra/launcher=submitit_local", "hydra.launcher.timeout_min=5"),
    )
    code, said = swept(tmp_path, *overrides)
    assert code == 1, said
    assert "1 finished, 1 failed; the same command continues" in said
    code, said = swept(tmp_path, *overrides)
    assert "2 runs: 1 finished, 1 to do" in said
