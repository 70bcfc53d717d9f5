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


def stop_on_signals(ask: Callable[[str], None] | None = None) -> None:
    """SIGTERM and SIGINT raise KeyboardInterrupt in the main thread, and so does SIGUSR1.

    A cluster kills seconds after SIGTERM, when a step may take minutes: there is no time to finish
    one. SIGUSR1 is what it sends, when asked to, in good time.

    Args:
        ask: what SIGUSR1 does instead, with its name: ask the work to end when it can end well.
    """

    def asked(signum: int, frame: FrameType | None) -> None:
        del frame
        assert ask is not None
        ask(signal.Signals(signum).name)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    signal.signal(signal.SIGUSR1, _stop if ask is None else asked)


def end_now() -> None:
    """From any thread: this process is stopped as by a signal."""
    os.kill(os.getpid(), signal.SIGTERM)


def _stop(signum: int, frame: FrameType | None) -> NoReturn:
    del frame
    os.write(2, f"stopped by {signal.Signals(signum).name}\n".encode())
    raise KeyboardInterrupt  # the one exception that Ray lets through as it is
