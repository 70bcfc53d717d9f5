"""`python -m tinylora_rl.train [+recipe=NAME] [group=choice] [key=value]`: one training run.

Exit codes: 0 done, 1 the run failed, 2 bad configuration, 3 environment, 75 stopped by a signal
with everything up to the last finished step saved. `--cfg job` prints the resolved configuration.

Many runs: `-m +recipe=arithmetic_cpu adapter.u=1,4,13 seed=0,1,2`, or `-m sweep=table2_math` for a
study. The same command skips what is finished and continues what is not. `hydra/launcher=plan` only
says how many runs there are and what they cost; `submitit_slurm` and `ray_jobs` run them elsewhere.
"""

from __future__ import annotations

from typing import Any

from tinylora_rl.command import run_command


def _job(experiment: Any) -> int:
    from tinylora_rl.training.run import train

    return train(experiment)


def main() -> None:
    """Exits with the code of the run."""
    run_command("train", _job)


if __name__ == "__main__":
    main()
