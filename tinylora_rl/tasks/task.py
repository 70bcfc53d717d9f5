"""Task: the questions that a run trains or measures a model on, and the registry of their names."""

from __future__ import annotations

import dataclasses
import typing
from abc import ABC, abstractmethod
from collections.abc import Mapping
from os import PathLike
from typing import Any, ClassVar, Literal, NamedTuple, TypeVar

from tinylora_rl.errors import ConfigError
from tinylora_rl.tasks.records import Source
from tinylora_rl.tasks.row import Row

Split = Literal["train", "test"]


class MeanTokens(NamedTuple):
    """Mean lengths that a cost estimate assumes."""

    prompt: int
    response: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task(ABC):
    """A data set with its prompt and its judge.

    A subclass is a frozen, keyword-only dataclass. Its fields are the keys of the configuration
    node `data` that it reads; `make_task` fills them. A field's default stands for null.

    Attributes:
        name: the value of `data.name`.
        splits: "train" for a task that can be trained on, "test" for one with held-out rows.
        shares_path: `data.path` is a folder that may hold the benchmarks' files, too.
        mean_tokens: assumed for cost estimates alone.
    """

    name: ClassVar[str]
    splits: ClassVar[tuple[Split, ...]] = ("train", "test")
    shares_path: ClassVar[bool] = True
    mean_tokens: ClassVar[MeanTokens] = MeanTokens(prompt=200, response=700)

    @property
    @abstractmethod
    def judge(self) -> str:
        """The judge that reads what the prompt asks for; rewards by exact match."""

    @property
    def headline(self) -> str:
        """The judge whose verdict is the accuracy in an evaluation's tables."""
        return self.judge

    @property
    def prompt_name(self) -> str | None:
        """The name of the prompt template for records of a run; None for the question alone."""
        return None

    @abstractmethod
    def rows(self, split: Split, limit: int | None = None) -> list[Row]:
        """Returns the rows of a split in a fixed order; the first `limit` if given.

        Raises:
            ConfigError: they are missing or malformed; one line with key, value and fix.
        """

    def num_rows(self, split: Split) -> int | None:
        """Returns the number of rows without reading them; None if it is not recorded."""
        return None

    def sources(self, split: Split) -> tuple[Source, ...]:
        """Returns the files that `rows` reads; none for a generated task."""
        return ()

    def remarks(self) -> list[str]:
        """Returns lines for the user of a run, such as which rows are held out."""
        return []

    def check_split(self, split: str) -> None:
        """Raises ConfigError if the task has no such split."""
        if split not in self.splits:
            raise ConfigError(
                f"data.split={split}: no such split; choose from {', '.join(self.splits)} "
                f"(of data.name={self.name})"
            )


TASKS: dict[str, type[Task]] = {}
"""Every registered task by its name."""

_TaskClass = TypeVar("_TaskClass", bound=type[Task])


def register_task(cls: _TaskClass) -> _TaskClass:
    """Adds a Task class to `TASKS`, as a decorator; ValueError if another has its name."""
    other = TASKS.get(cls.name, cls)
    if (other.__module__, other.__qualname__) != (cls.__module__, cls.__qualname__):
        raise ValueError(f"task name {cls.name!r}: taken by {other.__qualname__}; choose another")
    TASKS[cls.name] = cls
    return cls


def task_names(split: Split | None = None) -> list[str]:
    """Returns the sorted names of all tasks; of those with a split if given."""
    return sorted(name for name, task in TASKS.items() if split is None or split in task.splits)


def make_task(
    name: str | None,
    options: Mapping[str, Any],
    *,
    split: Split | None = None,
    key: str = "data.name",
) -> Task:
    """Returns the task called `name`, with the fields that it declares taken out of `options`.

    Args:
        options: may have any further keys (a configuration's whole `data` node).
        split: the task must have this split.
        key: opens the message for an unknown name.

    Raises:
        ConfigError: no such task, or a field's value does not fit.
    """
    known = task_names(split)
    if name not in known:
        raise ConfigError(f"{key}={name}: choose from {', '.join(known)}")
    cls = TASKS[name]
    hints = typing.get_type_hints(cls)
    given = {}
    for field in dataclasses.fields(cls):
        value = options.get(field.name)
        if value is not None:
            given[field.name] = _of_type(field.name, value, hints[field.name])
    return cls(**given)


def _of_type(name: str, value: Any, hint: Any) -> Any:
    """Returns the value of a field that is a text or a number; raises ConfigError for another."""
    wanted = {str: "give a text", int: "use a whole number", float: "use a number"}
    kinds = [each for each in typing.get_args(hint) or (hint,) if each in wanted]
    if len(kinds) != 1:
        return value
    [kind] = kinds
    accepted = {str: str | PathLike, int: int, float: int | float}[kind]
    if isinstance(value, bool) or not isinstance(value, accepted):
        raise ConfigError(f"data.{name}={value}: {wanted[kind]}")
    return value
