"""What all verbs share: Hydra composes, a job runs, its end becomes an exit code."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

import hydra
from omegaconf import DictConfig

from tinylora_rl.errors import (
    EXIT_CONFIG,
    EXIT_ENVIRONMENT,
    EXIT_FAILED,
    EXIT_SIGNAL,
    ConfigError,
    MachineError,
)
from tinylora_rl.launch.resolvers import config_dir, register_resolvers


def run_verb(config_name: str, job: Callable[[DictConfig], int]) -> NoReturn:
    """The process ends with the exit code of `job`, given the configuration of the command line.

    0 done, 1 failed, 2 bad configuration, 3 environment, 75 stopped by a signal with everything
    finished until then saved. `--cfg job` prints the resolved configuration.
    """
    register_resolvers()
    if {"--cfg", "-c"} & set(sys.argv) and "--resolve" not in sys.argv:
        sys.argv.append("--resolve")  # a configuration full of ${...} tells a person little
    outcome: list[int] = []

    @hydra.main(version_base="1.3", config_path=str(config_dir()), config_name=config_name)
    def run(config: DictConfig) -> None:
        outcome.append(EXIT_FAILED)  # what is left if the job does not return
        stop_on_signals()
        try:
            outcome[-1] = job(config)
        except (ConfigError, MachineError) as error:
            outcome[-1] = error.exit_code
            print(f"error: {error}", file=sys.stderr)
        except KeyboardInterrupt:
            outcome[-1] = EXIT_SIGNAL

    try:
        run()
    except ModuleNotFoundError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(EXIT_ENVIRONMENT)
    except SystemExit as stop:
        # Hydra ends with 1 when the command line does not compose: that is configuration.
        sys.exit(EXIT_CONFIG if not outcome and stop.code == 1 else stop.code)
    sys.exit(max(outcome, default=0))


def stop_on_signals() -> None:
    """SIGTERM and SIGINT raise KeyboardInterrupt in the main thread."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)


def _stop(signum: int, frame: FrameType | None) -> NoReturn:
    del frame
    os.write(2, f"stopped by {signal.Signals(signum).name}\n".encode())
    raise KeyboardInterrupt  # the one exception that Ray lets through as it is
