"""Kills a real run again and again, and checks that it ends where an undisturbed one ends.

    python scripts/chaos.py DIR [--kills 30] [--seed 0] [--steps 12] [key=value ...]

Trains the embedded task on the CPU once undisturbed, and once under kill -9: of the driver, of a
Ray actor (the trainer's worker, vLLM's server, the agent loop, the task runner, ...), or of the
process that is writing a checkpoint. After each kill the run must end within about a minute, leave
no process behind, and continue when the same command is given again. At the end v must be
the undisturbed run's at every step, bit for bit. Exits with 1 where any of this fails.

Kills fall between the start and some steps after it, so that starting up is interrupted, too. A run
that finishes before all kills are made is compared, and the next one begins.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import psutil

from tinylora_rl.artifact import read_manifest
from tinylora_rl.runs.checkpoints import MANIFEST, newest_good, step_folders, step_of
from tinylora_rl.runs.directory import RunDirectory, read_metrics
from tinylora_rl.runs.vector_log import read_vectors

SETTINGS = (
    "+recipe=arithmetic_cpu",
    "task.prompts_per_step=8",
    "task.samples_per_prompt=4",
    "task.eval_rows=16",
    "trainer.val_before_train=false",
    "trainer.test_freq=5",
    "actor_rollout_ref.actor.optim.lr=0.02",
)
DRIVER, CHECKPOINT = "driver", "checkpoint"
ACTORS = {  # target: beginning of the process's title
    "worker": "ray::WorkerDict",
    "engine": "ray::TinyLoraHttpServer",
    "agent loop": "ray::AgentLoopWorker",
    "rewards": "ray::RewardLoopWorker",
    "task runner": "ray::TaskRunner",
    "queue": "ray::TransferQueueController",
    "storage": "ray::SimpleStorageUnit",
}
WEIGHTS = {DRIVER: 6, CHECKPOINT: 8, "worker": 4, "engine": 4}  # the others 1 each
STEPS_AFTER = 4  # kills fall within so many steps after the first
ENDS_WITHIN_S = 150.0  # a run whose actor is dead
GONE_WITHIN_S = 60.0  # all its processes, after that
MARK = "TINYLORA_CHAOS"  # in the environment of every process of a run


@dataclasses.dataclass
class Kill:
    """One row of the table."""

    target: str
    after_s: float
    step: int
    code: int
    ended_s: float
    left: int
    said: str

    def row(self, number: int) -> str:
        return (
            f"{number:>4}  {self.target:<12} {self.after_s:>7.1f} {self.step:>5} {self.code:>5} "
            f"{self.ended_s:>8.1f} {self.left:>5}  {self.said[:90]}"
        )


class Start:
    """One start of the command, with all processes that come of it."""

    def __init__(self, run_dir: Path, overrides: list[str]) -> None:
        self.run = RunDirectory(run_dir)
        self.mark = uuid.uuid4().hex
        self.console = run_dir.parent / f"{run_dir.name}.console.txt"
        self._position = self.console.stat().st_size if self.console.exists() else 0
        with self.console.open("a") as output:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "tinylora_rl.train", f"run.dir={run_dir}"),
                    *SETTINGS,
                    *overrides,
                ],
                env={**os.environ, MARK: self.mark},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.start_s, self.started = time.monotonic(), time.time()

    @property
    def age_s(self) -> float:
        return time.monotonic() - self.start_s

    def processes(self) -> list[psutil.Process]:
        """Returns the live processes of this start, whatever their parents are."""
        found = []
        for process in psutil.process_iter():
            try:
                is_alive = process.status() != psutil.STATUS_ZOMBIE
                if is_alive and process.environ().get(MARK) == self.mark:
                    found.append(process)
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        return found

    def actor(self, target: str) -> psutil.Process | None:
        for process in self.processes():
            try:
                if "".join(process.cmdline()[:1]).startswith(ACTORS[target]):
                    return process
            except psutil.NoSuchProcess:
                continue
        return None

    def said(self) -> str:
        """Returns the line in which the run states why it ended, or its last step."""
        with self.console.open() as file:
            file.seek(self._position)
            lines = [line.strip() for line in file if line.strip()]
        failed = [line for line in lines if line.startswith(("the run failed", "error:"))]
        return (failed or lines or [""])[-1]

    def kept_step(self) -> int:
        found = newest_good(self.run.checkpoints).folder
        return step_of(found) or 0 if found else 0


def is_writing(start: Start) -> bool:
    """Returns True where this start has begun a checkpoint and not finished it."""
    newest = next(iter(step_folders(start.run.checkpoints)), None)
    try:
        return (
            newest is not None
            and not (newest / MANIFEST).exists()
            and newest.stat().st_mtime > start.started  # else a torn one of a start before
        )
    except FileNotFoundError:  # just discarded
        return False


def kill(start: Start, target: str, after_s: float, draw: random.Random) -> str | None:
    """Kills `target`, or the driver before `target` lives; None where the run was faster.

    Returns:
        What was killed.
    """
    while start.age_s < after_s:
        if start.process.poll() is not None:
            return None
        time.sleep(0.02)
    if target == CHECKPOINT:
        while not is_writing(start):
            if start.process.poll() is not None:
                return None
            time.sleep(0.0005)
        time.sleep(draw.random() * 0.05)
        target = draw.choice([DRIVER, "worker", "task runner"])
        killed = f"{CHECKPOINT}/{target[:4].strip()}"
    else:
        killed = target
    victim = None if target == DRIVER else start.actor(target)
    if victim is None:
        victim, killed = psutil.Process(start.process.pid), killed if target == DRIVER else DRIVER
    if start.process.poll() is not None:
        return None
    victim.kill()
    return killed


def end(start: Start) -> tuple[int, float, int]:
    """Returns (exit code, seconds until then, processes left, which are ended here)."""
    begin_s = time.monotonic()
    try:
        code = start.process.wait(ENDS_WITHIN_S)
    except subprocess.TimeoutExpired:
        start.process.kill()
        code = start.process.wait()
        print(f"      the run went on for {ENDS_WITHIN_S:g} s with a dead actor", flush=True)
    ended_s = time.monotonic() - begin_s
    deadline_s = time.monotonic() + GONE_WITHIN_S
    while (left := start.processes()) and time.monotonic() < deadline_s:
        time.sleep(0.5)
    for process in left:
        print(f"      left behind: {process}", flush=True)
        process.kill()
    return code, ended_s, len(left)


def differences(disturbed: RunDirectory, peaceful: RunDirectory) -> Iterator[str]:
    """Compares two finished runs that should have the same v, rewards and accuracies.

    Not compared: times, and verl's bootstrap (`best@N`, ...), which depends on the order in which
    samples arrive.
    """
    ours, true = (read_vectors(run.vectors) for run in (disturbed, peaceful))
    if ours.keys() != true.keys():
        yield f"v.jsonl has steps {sorted(ours)}, not {sorted(true)}"
    for step in sorted(ours.keys() & true.keys()):
        if ours[step] != true[step]:
            pairs = zip(chain(*ours[step]), chain(*true[step]), strict=True)
            yield f"v differs at step {step} by up to {max(abs(a - b) for a, b in pairs):.3g}"
    digests = [read_manifest(run.adapter)["payload_sha256"] for run in (disturbed, peaceful)]
    if digests[0] != digests[1]:
        yield "adapter/ holds another v"
    rows = [
        {row["step"]: row for row in read_metrics(run.metrics)} for run in (disturbed, peaceful)
    ]
    if rows[0].keys() != rows[1].keys():
        yield f"metrics.jsonl has steps {sorted(rows[0])}, not {sorted(rows[1])}"
    for step in sorted(rows[0].keys() & rows[1].keys()):
        for key, value in rows[1][step].items():
            is_result = key.startswith("critic/score/") or "/acc/mean@" in key
            if is_result and rows[0][step].get(key) != value:
                yield f"{key} at step {step} is {rows[0][step].get(key)}, not {value}"


def undisturbed(folder: Path, overrides: list[str]) -> tuple[RunDirectory, float, float]:
    """Returns the undisturbed run, seconds until its first step, and seconds of a step."""
    start = Start(folder, overrides)
    first_s = None
    while start.process.poll() is None:
        if first_s is None and start.run.vectors.exists():
            first_s = start.age_s
        time.sleep(0.2)
    if start.process.returncode or end(start)[2]:
        sys.exit(f"the undisturbed run failed: {start.said()}")
    rows = [row["timing_s/step"] for row in read_metrics(start.run.metrics)]
    return start.run, first_s or start.age_s, sorted(rows)[len(rows) // 2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="a new folder for the runs")
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0, help="of targets and moments")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--targets", nargs="*", default=[DRIVER, CHECKPOINT, *ACTORS])
    parser.add_argument("overrides", nargs="*", default=[], help="of the run's configuration")
    given = parser.parse_intermixed_args()
    draw = random.Random(given.seed)
    folder = given.folder.resolve()
    folder.mkdir(parents=True)
    overrides = [f"trainer.total_training_steps={given.steps}", *given.overrides]

    peaceful, first_s, step_s = undisturbed(folder / "undisturbed", overrides)
    print(f"undisturbed: first step after {first_s:.0f} s, then {step_s:.1f} s a step")
    print("kill  target        after s  step  exit  ended s  left  what the run said", flush=True)
    kills: list[Kill] = []
    problems: list[str] = []
    num_runs, is_over = 0, True
    while len(kills) < given.kills or not is_over:
        if is_over:
            num_runs += 1
            run_dir = folder / f"disturbed_{num_runs}"
        start = Start(run_dir, overrides)
        killed = None
        if len(kills) < given.kills:
            weights = [WEIGHTS.get(target, 1) for target in given.targets]
            [target] = draw.choices(given.targets, weights)
            # actors and checkpoints come late in a start; the driver is killed at any time
            earliest_s = 0.0 if target == DRIVER else 0.6 * first_s
            after_s = draw.uniform(earliest_s, first_s + STEPS_AFTER * step_s)
            killed = kill(start, target, after_s, draw)
        at_s, before = start.age_s, start.kept_step()
        if killed is None:
            start.process.wait()
        code, ended_s, left = end(start)
        if killed is not None:
            row = Kill(killed, at_s, before, code, ended_s, left, start.said())
            kills.append(row)
            print(row.row(len(kills)), flush=True)
            is_driver = killed == DRIVER or killed.endswith("/driv")
            # with its last step just made, a run may not need the actor any more
            expected = (-signal.SIGKILL,) if is_driver else (1, 0)
            if code not in expected:
                problems.append(f"kill {len(kills)}: exit code {code}, not {expected[0]}")
            if start.kept_step() < before:
                problems.append(f"kill {len(kills)}: step {before} was kept and is not any more")
        if left:
            problems.append(f"{left} processes were left behind")
        is_over = killed is None and code == 0
        if is_over:
            found = list(differences(start.run, peaceful))
            problems += [f"{run_dir.name}: {difference}" for difference in found]
            print(f"      {run_dir.name} finished: {found or 'as the undisturbed run'}", flush=True)
        elif killed is None:
            sys.exit(f"{run_dir.name} ended with {code}: {start.said()}")
    print(f"{len(kills)} kills over {num_runs} runs of {given.steps} steps; problems: {problems}")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
