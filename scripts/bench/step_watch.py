"""Watches a training from outside: the times of its log lines and steps, and its CPU time.

One measurement for every peer of step.py: a step is the time between two lines of a metrics file,
so that it includes all that a trainer does between its own clocks.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

POLL_S = 0.02


@dataclasses.dataclass(frozen=True, kw_only=True)
class Line:
    """A line of the metrics file: seconds since the command, its content, CPU seconds so far of
    every role (see `Tree`)."""

    at_s: float
    row: dict[str, Any]
    cpu_s: dict[str, float]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trace:
    """The measurements; `marks` maps a stage to the seconds from the command to its log line."""

    lines: list[Line]
    marks: dict[str, float]


def watch(
    command: Sequence[str],
    *,
    metrics: Path,
    logs: Sequence[Path],
    marks: Mapping[str, str],
    environment: Mapping[str, str],
    limit_s: float,
) -> Trace:
    """Runs the command to its end; its output is in logs[0], further logs it writes itself.

    Args:
        marks: {stage: words that some log says when the stage has ended}.

    Raises:
        RuntimeError: it failed or took longer than `limit_s`; the message names its log.
    """
    found: dict[str, float] = {}
    lines: list[Line] = []
    followed = [Followed(path) for path in logs]
    measured = Followed(metrics)
    tree = Tree()
    start_s = time.monotonic()
    with logs[0].open("w") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
            start_new_session=True,
        )
    try:
        while True:
            ended = process.poll() is not None
            now_s = time.monotonic() - start_s
            for text in (text for log in followed for text in log.new_lines()):
                for stage, words in marks.items():
                    if stage not in found and words in text:
                        found[stage] = now_s
            for text in measured.new_lines():
                cpu_s = tree.cpu_s(process.pid)
                lines.append(Line(at_s=now_s, row=json.loads(text), cpu_s=cpu_s))
            if ended:
                break
            if now_s > limit_s:
                raise RuntimeError(f"no end after {limit_s:g} s; see {logs[0]}")
            time.sleep(POLL_S)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(60)
    if process.returncode:
        raise RuntimeError(f"exit code {process.returncode}; see {', '.join(map(str, logs))}")
    if unseen := marks.keys() - found.keys():
        raise RuntimeError(f"no log says that {unseen} ended; see {', '.join(map(str, logs))}")
    return Trace(lines=lines, marks=found)


class Followed:
    """A growing file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def new_lines(self) -> list[str]:
        """Returns the whole lines since the last call."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._offset)
            whole, newline, _ = file.read().rpartition(b"\n")
        self._offset += len(whole) + len(newline)
        return whole.decode(errors="replace").splitlines() if newline else []


class Tree:
    """Returns CPU seconds by role of a process and all it started, the dead ones included."""

    def __init__(self) -> None:
        self._spent: dict[tuple[int, float], tuple[str, float]] = {}

    def cpu_s(self, pid: int) -> dict[str, float]:
        try:
            parent = psutil.Process(pid)
            processes = [parent, *parent.children(recursive=True)]
        except psutil.NoSuchProcess:
            processes = []
        for process in processes:
            try:
                times, words = process.cpu_times(), process.cmdline()
                born = process.create_time()
            except psutil.NoSuchProcess:
                continue
            role = "driver" if process.pid == pid else _role(words)
            self._spent[process.pid, born] = role, times.user + times.system
        totals: dict[str, float] = {}
        for role, seconds in self._spent.values():
            totals[role] = totals.get(role, 0.0) + seconds
        return totals


def _role(words: list[str]) -> str:
    """Reads the role off the process name: Ray names it after class and method of the actor."""
    title = words[0] if words else ""
    if title.startswith("ray::"):
        return title.removeprefix("ray::").split(".")[0].split(":")[0].split()[0]
    if title.startswith("VLLM::"):
        return title.removeprefix("VLLM::").split()[0]
    return "Ray itself" if any("ray" in word for word in words[:3]) else "other"
