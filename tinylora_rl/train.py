"""`python -m tinylora_rl.train [+recipe=NAME] [group=choice] [key=value]`: one training run.

Exit codes: 0 done, 1 the run failed, 2 bad configuration, 3 environment, 75 stopped by a signal
with everything up to the last finished step saved. `--cfg job` prints the resolved configuration.
"""

from __future__ import annotations

import sys

import hydra
from omegaconf import DictConfig

from tinylora_rl.launch.errors import (
    EXIT_CONFIG,
    EXIT_ENVIRONMENT,
    EXIT_SIGNAL,
    ConfigError,
    MachineError,
)
from tinylora_rl.launch.resolvers import config_dir, register_resolvers


def main() -> None:
    """Exits with the code of the run."""
    register_resolvers()
    if {"--cfg", "-c"} & set(sys.argv) and "--resolve" not in sys.argv:
        sys.argv.append("--resolve")  # a configuration full of ${...} tells a person little
    outcome: list[int] = []

    @hydra.main(version_base="1.3", config_path=str(config_dir()), config_name="train")
    def run(config: DictConfig) -> None:
        from tinylora_rl.launch.job import run_job

        outcome.append(1)  # what is left if run_job does not return
        try:
            outcome[-1] = run_job(config)
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


if __name__ == "__main__":
    main()
