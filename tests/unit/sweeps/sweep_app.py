"""`python -m tests.unit.sweeps.sweep_app`: train's configuration and exit codes.

Its run only counts.

The least that a sweep needs of a command: it locks its directory, records its status, writes a
line of metrics a step and continues after the last one. `+counting.pace_s=` is the length of a
step, `+counting.fails_at_u=` the value of adapter.u that fails.
"""

import time
from pathlib import Path

from omegaconf import OmegaConf

from tinylora_rl.atomic import write_text
from tinylora_rl.command import run_command
from tinylora_rl.errors import ConfigError
from tinylora_rl.planning.cost import planned_steps
from tinylora_rl.runs.directory import MetricsFile, RunDirectory, exclusive
from tinylora_rl.runs.status import RecordedRun, last_step
from tinylora_rl.settings.experiment import Experiment


def count(experiment: Experiment) -> int:
    config = experiment.tree
    counting = config.get("counting") or {}
    run = RunDirectory(Path(config.run.dir))
    with exclusive(run.path), RecordedRun(run.path, config.command) as recorded:
        write_text(run.config, OmegaConf.to_yaml(config))
        steps = planned_steps(experiment)
        recorded.expect(steps)
        print(f"from step {last_step(run.path)}")
        if config.adapter.u == counting.get("fails_at_u"):
            raise ConfigError(f"adapter.u={config.adapter.u}: fails here; choose another")
        for step in range(last_step(run.path) + 1, steps + 1):
            time.sleep(counting.get("pace_s", 0))
            MetricsFile(run.metrics).log({"critic/score/mean": config.seed / 10}, step)
        recorded.exit_code = 0
    return recorded.exit_code


if __name__ == "__main__":
    run_command("train", count)
