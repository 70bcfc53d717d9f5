"""`python -m tinylora_rl.train [+recipe=NAME] [group=choice] [key=value]`: one training run.

Exit codes: 0 done, 1 the run failed, 2 bad configuration, 3 environment, 75 stopped by a signal
with everything up to the last finished step saved. `--cfg job` prints the resolved configuration.
"""

from __future__ import annotations

from omegaconf import DictConfig

from tinylora_rl.launch.verb import run_verb


def _job(config: DictConfig) -> int:
    from tinylora_rl.launch.training import train

    return train(config)


def main() -> None:
    """Exits with the code of the run."""
    run_verb("train", _job)


if __name__ == "__main__":
    main()
