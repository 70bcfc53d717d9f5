"""The ranks of one job on this node, as torchrun would start them; they end together.

Not torchrun: it puts its own signal handlers in place of ours, imports torch once more, and leaves
its workers behind when it is killed.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

PR_SET_PDEATHSIG = 1  # linux/prctl.h
POLL_S = 0.1
GRACE_S = 10.0  # to end after SIGTERM


def run_ranks(
    module: str, arguments: Sequence[str], *, num_ranks: int, env: Mapping[str, str]
) -> int:
    """Runs `python -m module` on every rank, to the end.

    Each sees RANK, LOCAL_RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT. When one fails, or this
    process is interrupted, the others are ended too.

    Returns:
        0, or the exit code of the first rank that failed.
    """
    shared = {
        "OMP_NUM_THREADS": str(max(1, len(os.sched_getaffinity(0)) // num_ranks)),
        **os.environ,
        **env,
        "WORLD_SIZE": str(num_ranks),
        "LOCAL_WORLD_SIZE": str(num_ranks),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(_free_port()),
    }
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for rank in range(num_ranks):
            processes.append(
                subprocess.Popen(
                    [sys.executable, "-m", module, *arguments],
                    env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
                    stdin=subprocess.DEVNULL,
                    start_new_session=True,  # Ctrl-C reaches this process, which ends them in order
                )
            )
        return _wait(processes)
    finally:
        _end(processes)


def _wait(processes: Sequence[subprocess.Popen[bytes]]) -> int:
    while True:
        codes = [process.poll() for process in processes]
        failed = next((code for code in codes if code), None)
        if failed is not None:
            return failed
        if all(code == 0 for code in codes):
            return 0
        time.sleep(POLL_S)


def _end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        process.terminate()
    deadline_s = time.monotonic() + GRACE_S
    for process in processes:
        try:
            process.wait(max(0.0, deadline_s - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def die_with_parent(parent: int) -> None:
    """Has the kernel kill this process when `parent` is gone; call first of all.

    Otherwise a run killed with -9 would go on writing into a directory whose lock is free again.
    """
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # gone already
        os._exit(1)
