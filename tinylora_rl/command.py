"""Runs a command: Hydra composes, a job runs, its end becomes an exit code."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from tinylora_rl.errors import EXIT_CONFIG, EXIT_ENVIRONMENT, EXIT_FAILED, ConfigError
from tinylora_rl.runs.exit_codes import exit_code_of
from tinylora_rl.settings.compose import config_dir, register_resolvers, translated
from tinylora_rl.sweeps.sweep import SweepOver


def run_command(name: str, job: Callable[[Any], int]) -> NoReturn:
    """Runs `job` on what the command line describes, and ends the process with its exit code.

    `job` gets an `Experiment` (train, sft) or an `Evaluation` (evaluate), read and checked.

    0 done, 1 failed, 2 bad configuration, 3 environment, 75 stopped by a signal with everything
    finished until then saved. With `-m` it is the exit code of the sweep: 0 every point is
    finished, 1 a point failed, 75 stopped. `--cfg job` prints the resolved configuration;
    `dry_run=true` plans and checks, and runs no job.
    """
    register_resolvers()
    sys.argv[1:], hints = translated(sys.argv[1:])
    for hint in hints:
        print(f"hint: {hint}", file=sys.stderr)
    if {"-m", "--multirun"} & set(sys.argv) and "dry_run=true" in map(str.lower, sys.argv):
        print(
            "error: dry_run=true: looks at one run; give it without -m, or hydra/launcher=plan to "
            "see what a sweep would run and cost",
            file=sys.stderr,
        )
        sys.exit(EXIT_CONFIG)
    if {"--cfg", "-c"} & set(sys.argv) and "--resolve" not in sys.argv:
        sys.argv.append("--resolve")  # a configuration full of ${...} tells a person little
    outcome: list[int] = []

    @hydra.main(version_base="1.3", config_path=str(config_dir()), config_name=name)
    def run(config: DictConfig) -> int:
        outcome.append(EXIT_FAILED)  # what is left if the job does not return
        outcome[-1] = exit_code_of(lambda: _one_run(name, config, job))
        return outcome[-1]  # for launchers that run it elsewhere

    try:
        run()
    except ModuleNotFoundError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(EXIT_ENVIRONMENT)
    except SweepOver as over:
        sys.exit(over.code)
    except SystemExit as stop:
        # Hydra ends with 1 when the command line does not compose: that is configuration.
        sys.exit(EXIT_CONFIG if not outcome and stop.code == 1 else stop.code)
    sys.exit(max(outcome, default=0))


def _given_overrides() -> Sequence[str]:
    """Returns the overrides of the command line, `dry_run` left out."""
    overrides: Sequence[str] = HydraConfig.get().overrides.task
    return [each for each in overrides if not each.lstrip("+").startswith("dry_run=")]


def _one_run(name: str, config: DictConfig, job: Callable[[Any], int]) -> int:
    study = config.get("sweep")
    if study is not None:
        raise ConfigError(f"sweep={study}: a study is many runs; give -m too")
    if not isinstance(config.dry_run, bool):
        raise ConfigError(f"dry_run={config.dry_run}: use true or false")
    if config.dry_run:
        from tinylora_rl.planning.doctor import doctor

        return doctor(config, _given_overrides())
    if name == "evaluate":
        from tinylora_rl.settings.evaluation import read_evaluation

        return job(read_evaluation(config))
    from tinylora_rl.settings.experiment import read

    if name == "sft":
        from tinylora_rl.settings.checks import check_overrides

        check_overrides(_given_overrides())
    return job(read(config))
