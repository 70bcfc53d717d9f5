"""A rank does not outlive the process that started it, however that one ended."""

from __future__ import annotations

import ctypes
import os
import signal

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def die_with_parent(parent: int) -> None:
    """The kernel kills this process when the one numbered `parent` is gone; call first of all.

    Otherwise a run killed with -9 would go on writing into a directory whose lock is free again.
    """
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # gone already
        os._exit(1)
