"""Runs a sweep, from its command line to its exit code."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hydra.core.config_loader import ConfigLoader
from hydra.errors import HydraException
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from tinylora_rl.errors import ConfigError
from tinylora_rl.settings.experiment import Experiment, read
from tinylora_rl.sweeps.plan import Plan, closing_table, costs, exit_code, make_plan, opening
from tinylora_rl.sweeps.points import expand, load_study, recipe_of, run_dir_of, study_name


class SweepOver(SystemExit):
    """Ends the process with a sweep's exit code, past Hydra, which would drop it."""


def sweep(
    config: DictConfig, loader: ConfigLoader, launcher: Launcher, arguments: Sequence[str]
) -> int:
    """Prints the plan, launches what is not finished, and prints the outcome.

    Args:
        config: as Hydra composed it for the sweep, `hydra` included.
        loader: composes the points.
        arguments: the command line, less what it says to Hydra.

    Returns:
        0 every point is finished, 1 a point failed, 75 some are left.
    """
    blocks = load_study(config.sweep, config.command) if config.sweep else []
    given = [argument for argument in arguments if not argument.startswith("sweep=")]
    points = expand(blocks, given, loader)
    recipes = {recipe_of(point) for point in points}
    recipe = recipes.pop() if len(recipes) == 1 and not blocks else None
    folder = _folder(config, recipe)
    plan = make_plan(points, folder, recipe)

    def compose(overrides: Sequence[str]) -> Experiment:
        try:
            return read(loader.load_sweep_config(config, list(overrides)))
        except (HydraException, OmegaConfBaseException) as error:
            problem = str(error).strip().splitlines()[0]
            raise ConfigError(f"{' '.join(overrides)}: {problem}; fix the sweep") from error

    for line in opening(plan, costs(plan, compose)):
        print(line, flush=True)
    codes: dict[Path, int] = {}
    try:
        codes = _launch(launcher, plan)
    finally:
        after = make_plan(points, folder, recipe)
        for line in closing_table(after, codes):
            print(line, flush=True)
    return exit_code(after, codes)


def _launch(launcher: Launcher, plan: Plan) -> dict[Path, int]:
    points = [point.overrides for point in plan.to_do]
    returned = launcher.launch(points, initial_job_idx=0) if points else []
    # less than there are points, where the last of them ended the sweep
    return {
        run_dir_of(point): int(each.return_value)
        for point, each in zip(points, returned, strict=False)
    }


def _folder(config: DictConfig, recipe: str | None) -> Path:
    """Names `runs/sweeps/<study or recipe>`, and `_sft` for supervised runs."""
    name = study_name(config.sweep) if config.sweep else recipe or "custom"
    if config.command != "train":
        name += f"_{config.command}"
    return Path(config.hydra.sweep.dir).expanduser().resolve() / name
