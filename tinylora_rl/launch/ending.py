"""How the work of a verb ends: errors, signals and results as exit codes."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

from tinylora_rl.errors import EXIT_SIGNAL, ConfigError, MachineError


def exit_code_of(work: Callable[[], int]) -> int:
    """What `work` returns; 2, 3 and 75, with a line for a person, where it was refused or stopped.

    Any other exception passes.
    """
    stop_on_signals()
    try:
        return work()
    except (ConfigError, MachineError) as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return EXIT_SIGNAL


def stop_on_signals() -> None:
    """SIGTERM and SIGINT raise KeyboardInterrupt in the main thread."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)


def _stop(signum: int, frame: FrameType | None) -> NoReturn:
    del frame
    os.write(2, f"stopped by {signal.Signals(signum).name}\n".encode())
    raise KeyboardInterrupt  # the one exception that Ray lets through as it is
