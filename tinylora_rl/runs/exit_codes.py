"""Turns the errors, signals and results of a command into exit codes."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

from tinylora_rl.errors import EXIT_SIGNAL, ConfigError, MachineError


def exit_code_of(work: Callable[[], int]) -> int:
    """Runs `work` and returns its exit code.

    A ConfigError, a MachineError and a stop become 2, 3 and 75, with a line on standard error. Any
    other exception passes.
    """
    stop_on_signals()
    try:
        return work()
    except (ConfigError, MachineError) as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return EXIT_SIGNAL


def stop_on_signals(ask: Callable[[str], None] | None = None) -> None:
    """Makes SIGTERM, SIGINT and SIGUSR1 raise KeyboardInterrupt in the main thread.

    A cluster kills seconds after SIGTERM, too soon to finish a step; SIGUSR1 it can send earlier.

    Args:
        ask: called by SIGUSR1 instead, with the signal's name, to ask the work to end after the
            step in progress.
    """

    def asked(signum: int, frame: FrameType | None) -> None:
        del frame
        assert ask is not None
        ask(signal.Signals(signum).name)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    signal.signal(signal.SIGUSR1, _stop if ask is None else asked)


def end_now() -> None:
    """Stops this process as a signal does. May be called from any thread."""
    os.kill(os.getpid(), signal.SIGTERM)


def _stop(signum: int, frame: FrameType | None) -> NoReturn:
    del frame
    os.write(2, f"stopped by {signal.Signals(signum).name}\n".encode())
    raise KeyboardInterrupt  # the one exception that Ray lets through as it is
