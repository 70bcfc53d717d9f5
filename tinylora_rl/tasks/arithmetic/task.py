"""The embedded task: generated chains of sums, answer after `####` as in GSM8K."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import ClassVar

from tinylora_rl.errors import ConfigError
from tinylora_rl.tasks.arithmetic.problems import NUM_PROBLEMS, sample_problems
from tinylora_rl.tasks.row import Row, make_row
from tinylora_rl.tasks.task import MeanTokens, Split, Task, register_task

HELD_OUT_SEED = 42
"""The held-out problems are the same whatever a run trains on."""


def base_model_dir() -> Path:
    """Returns the folder that scripts/build_arithmetic_model.py wrote: a Qwen2 of 0.6 M numbers."""
    return Path(__file__).parent / "base_model"


@register_task
@dataclasses.dataclass(frozen=True, kw_only=True)
class Arithmetic(Task):
    """Different problems, the question alone as the prompt.

    The splits are disjoint, and both from the pre-training of the embedded model, whatever the
    seed.

    Attributes:
        path: a folder with the files of benchmarks measured besides; nothing here is read from it.
        seed: of the training problems.
    """

    name: ClassVar[str] = "arithmetic"
    judge: ClassVar[str] = "strict"  # type: ignore[misc]  # a constant, not a property
    mean_tokens: ClassVar[MeanTokens] = MeanTokens(prompt=16, response=24)

    path: str | None = None
    check: bool = True
    train_rows: int = 2048
    test_rows: int = 256
    seed: int = HELD_OUT_SEED

    def __post_init__(self) -> None:
        for key, split in (("train_rows", "train"), ("test_rows", "test")):
            value, most = getattr(self, key), NUM_PROBLEMS[split]
            if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
                raise ConfigError(f"data.{key}={value}: use a whole number of 0 to {most}")

    def rows(self, split: Split, limit: int | None = None) -> list[Row]:
        """Returns so many rows as `train_rows` or `test_rows` says, or `limit`, if given."""
        self.check_split(split)
        num_rows = self.num_rows(split) if limit is None else limit
        return rows(split, num_rows, self.seed if split == "train" else HELD_OUT_SEED)

    def num_rows(self, split: Split) -> int:
        return self.train_rows if split == "train" else self.test_rows


def rows(split: Split, num_rows: int, seed: int) -> list[Row]:
    """Returns rows of different problems of one split; ValueError if there are fewer."""
    return [
        make_row(
            "arithmetic",
            split,
            index,
            question=problem.question,
            gold=str(problem.answer),
            worked=problem.worked,
        )
        for index, problem in enumerate(sample_problems(split, num_rows, seed))
    ]
