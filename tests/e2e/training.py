"""Starting `python -m tinylora_rl.train` as a user does, in a process of its own."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

from tinylora_rl.runs.directory import RunDirectory, read_metrics

REPOSITORY = Path(__file__).parents[2]

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
    # tests/e2e/faults must be importable in Ray's workers too
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
