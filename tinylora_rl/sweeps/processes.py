"""One point after the other on this machine, each in a process of its own.

Ray, vLLM and torch leave state behind; a process does not. A stop signal is passed on to the point
that runs, which saves and ends; the points after it are not begun.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TextIO

from tinylora_rl.errors import EXIT_SIGNAL
from tinylora_rl.sweeps.jobs import Job, ProgressLine, last_words

POLL_S = 0.5


def run_in_turn(
    jobs: Iterable[Job], *, keep_going: bool, stop_timeout_s: float, console: TextIO
) -> dict[Path, int]:
    """Runs `jobs` in order.

    Args:
        keep_going: whether those after a failed one are run.
        stop_timeout_s: what a point has between the signal and SIGKILL.

    Returns:
        {directory: exit code} of those that were run.

    Raises:
        KeyboardInterrupt: passed on once the running point has ended.
    """
    codes: dict[Path, int] = {}
    for job in jobs:
        code = run(job, stop_timeout_s=stop_timeout_s, console=console)
        codes[job.directory] = code
        if code not in (0, EXIT_SIGNAL) and not keep_going:
            break
    return codes


def run(job: Job, *, stop_timeout_s: float, console: TextIO) -> int:
    """The exit code of `job`, negative where a signal killed it."""
    line = ProgressLine(job, console)
    job.directory.mkdir(parents=True, exist_ok=True)
    with job.console.open("ab") as output:
        line.start()
        # Its own session: a ctrl-C reaches it once, from here, and not from the terminal too.
        process = subprocess.Popen(
            [sys.executable, *job.arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            start_new_session=True,
        )
        try:
            while not _ends_within(process, POLL_S):
                line.update()
        except KeyboardInterrupt:
            line.end("stopping")
            _stop(process, stop_timeout_s)
            raise
    line.end(_outcome(process.returncode, job))
    return process.returncode


def _stop(process: subprocess.Popen[bytes], timeout_s: float) -> None:
    process.terminate()
    try:
        process.wait(timeout_s)
    finally:  # late, or the user has lost patience
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _ends_within(process: subprocess.Popen[bytes], seconds: float) -> bool:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def _outcome(code: int, job: Job) -> str:
    if code == 0:
        return "done"
    if code == EXIT_SIGNAL:
        return "stopped"
    return f"failed with exit code {code}: {last_words(job.directory)}"
