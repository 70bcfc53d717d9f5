"""Starting `python -m tinylora_rl.train` as a user does, in a process of its own."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

import psutil

from tinylora_rl.runs.checkpoints import newest_good, step_of
from tinylora_rl.runs.directory import RunDirectory, read_metrics
from tinylora_rl.runs.vector_log import read_vectors

REPOSITORY = Path(__file__).parents[2]
NUM_STEPS = 5  # of the undisturbed run
MARK = "TINYLORA_TEST"  # in the environment of every process of a run

# A small but whole GRPO step, with a learning rate that moves v far enough to matter at once, and
# the reference policy (the adapter disabled) computed beside it: kl_loss measures the distance to
# the base.
SMALL = (
    "+recipe=arithmetic_cpu",
    "task.prompts_per_step=8",
    "task.samples_per_prompt=4",
    "actor_rollout_ref.rollout.agent.num_workers=1",
    "trainer.val_before_train=false",
    "trainer.test_freq=-1",
    "actor_rollout_ref.actor.optim.lr=0.02",
    "actor_rollout_ref.actor.use_kl_loss=true",
    "actor_rollout_ref.actor.kl_loss_coef=0.0",
)


@dataclasses.dataclass(frozen=True)
class Finished:
    """A run that ended: its exit code, what a person saw, and its directory."""

    code: int
    console: str
    run: RunDirectory

    @property
    def steps(self) -> dict[int, dict]:
        return {row["step"]: row for row in read_metrics(self.run.metrics)}


def command(run_dir: Path, *overrides: str) -> list[str]:
    return [sys.executable, "-m", "tinylora_rl.train", f"run.dir={run_dir}", *overrides]


def environment(**variables: str) -> dict[str, str]:
    # tests/integration/faults must be importable in Ray's workers too
    return {**os.environ, "PYTHONPATH": str(REPOSITORY), **variables}


def train(run_dir: Path, *overrides: str, timeout_s: float = 540, **variables: str) -> Finished:
    """Runs to the end and returns; the test fails when it takes longer than `timeout_s`."""
    process = subprocess.run(
        command(run_dir, *overrides),
        cwd=REPOSITORY,
        env=environment(**variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    return Finished(process.returncode, process.stdout, RunDirectory(run_dir))


def story(finished: Finished) -> str:
    """What to show when an assertion about a run fails."""
    log = finished.run.log.read_text()[-6000:] if finished.run.log.exists() else ""
    return f"exit {finished.code}\n{finished.console}\n--- end of the log ---\n{log}"


class Started:
    """A run that goes on while a test looks at it.

    Args:
        prefix: a command that the run is started by.
    """

    living: ClassVar[list[Started]] = []

    def __init__(self, run_dir: Path, *overrides: str, prefix: Sequence[str] = ()) -> None:
        self.run = RunDirectory(run_dir)
        self._mark = uuid.uuid4().hex
        self._console = run_dir.parent / f"{run_dir.name}.console.txt"
        with self._console.open("w") as console:
            self._process = subprocess.Popen(
                [*prefix, *command(run_dir, *overrides)],
                cwd=REPOSITORY,
                env=environment(**{MARK: self._mark}),
                stdout=console,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.living.append(self)

    @classmethod
    def end_all(cls) -> None:
        """Nothing that was started goes on, however its test ended."""
        while cls.living:
            started = cls.living.pop()
            while left := started.processes():
                for process in left:
                    with suppress(psutil.NoSuchProcess):
                        process.kill()
            started._process.wait()

    def wait_for(self, is_so: Callable[[], bool], timeout_s: float = 400) -> None:
        deadline_s = time.monotonic() + timeout_s
        while not is_so():
            assert self._process.poll() is None, story(self.finished())
            assert time.monotonic() < deadline_s
            time.sleep(0.05)

    def view(self, folder: Path) -> Path:
        """`folder` as the run sees it."""
        return Path(f"/proc/{self._process.pid}/root") / folder.relative_to("/")

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def kill(self) -> None:
        """The driver, and whatever is in its session."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def finished(self, timeout_s: float = 200) -> Finished:
        code = self._process.wait(timeout_s)
        return Finished(code, self._console.read_text(), self.run)

    def processes(self) -> list[psutil.Process]:
        """All that live and are of this run, whoever their parent is."""
        found = []
        for process in psutil.process_iter():
            try:
                is_alive = process.status() != psutil.STATUS_ZOMBIE
                if is_alive and process.environ().get(MARK) == self._mark:
                    found.append(process)
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        return found

    def actor(self, name: str) -> psutil.Process:
        """The process of the one Ray actor whose class's name begins so."""
        titles = {process: "".join(process.cmdline()[:1]) for process in self.processes()}
        [actor] = [process for process in titles if titles[process].startswith(f"ray::{name}")]
        return actor

    def left_behind(self) -> list[psutil.Process]:
        """Processes that live half a minute later."""
        deadline_s = time.monotonic() + 30
        while (left := self.processes()) and time.monotonic() < deadline_s:
            time.sleep(0.5)
        return left


def vector_steps(run: RunDirectory) -> list[int]:
    return list(read_vectors(run.vectors)) if run.vectors.exists() else []


def kept_step(run: RunDirectory) -> int:
    folder = newest_good(run.checkpoints).folder
    assert folder is not None
    return step_of(folder) or 0
