"""Published data sets: their files, their records, and a digest that identifies them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from abc import abstractmethod
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import ClassVar

from tinylora_rl.errors import ConfigError
from tinylora_rl.tasks.prompts import Template, template_named
from tinylora_rl.tasks.records import HubFiles, LocalPath, Record, Source, WebFile, read_file
from tinylora_rl.tasks.row import Row, make_row
from tinylora_rl.tasks.task import Split, Task


@dataclasses.dataclass(frozen=True, kw_only=True)
class Example:
    """The parts of a record that a row is made of."""

    question: str
    worked: str  # the text that the gold was read from, as published
    gold: str
    tolerance: float | None = None  # absolute
    unordered: bool = False  # gold holds several answers, separated by commas, in any order


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataSet:
    """One split of a published data set."""

    name: str
    data_source: str
    split: str
    origin: HubFiles | WebFile
    files: tuple[str, ...]  # to look for under a local path, in that order
    # None if the published file was not at hand when this was written, and then not checked:
    num_rows: int | None
    digest: str | None  # `digest_of` its examples
    read: Callable[[Record], Example]

    def source(self, path: str | None) -> Source:
        """Returns the place that `examples` reads."""
        return self.origin if path is None else LocalPath(Path(path))

    def examples(self, path: str | None, *, check: bool) -> list[Example]:
        """Returns all examples in the order published.

        Args:
            path: a folder with one of `files`; None: `origin`.
            check: ConfigError if they are not the published ones.
        """
        records = self.origin.records() if path is None else self._local(Path(path))
        examples = [self.read(record) for record in records]
        place = f"data.path={'null' if path is None else path}: {self.name}"
        if not examples:
            raise ConfigError(f"{place}: no rows in {' or '.join(self.files)}; {self._fix}")
        if check:
            self._check(examples, place)
        return examples

    def _check(self, examples: list[Example], place: str) -> None:
        found = digest_of(examples)
        counts_differ = self.num_rows is not None and len(examples) != self.num_rows
        if counts_differ or (self.digest is not None and found != self.digest):
            raise ConfigError(
                f"{place}: found {len(examples)} rows, digest {found[:16]}; published are "
                f"{self.num_rows} rows, digest {(self.digest or 'unknown')[:16]}; "
                f"{self._fix}, or set data.check=false to take the rows as they are"
            )

    def _local(self, directory: Path) -> Iterable[Record]:
        if not directory.is_dir():
            raise ConfigError(f"data.path={directory}: no such folder; {self._fix}")
        for name in self.files:
            if (directory / name).is_file():
                return read_file(directory / name, f"data.path={directory}: {name}")
        names = " or ".join(self.files)
        raise ConfigError(f"data.path={directory}: no {names} in it; {self._fix}")

    @property
    def _fix(self) -> str:
        return f"point data.path at a folder holding {self.files[0]} ({self.origin})"


@dataclasses.dataclass(frozen=True, kw_only=True)
class PublishedTask(Task):
    """A task over published data sets.

    Attributes:
        path: a folder with the files; None: the hub or the web.
        template: a name of `prompts.TEMPLATES`; None: the task's usual one.
        check: refuse rows that are not the published ones.
    """

    usual_template: ClassVar[str]

    path: str | None = None
    template: str | None = None
    check: bool = True

    def __post_init__(self) -> None:
        template_named(self.prompt_name)

    @abstractmethod
    def data_set(self, split: Split) -> DataSet:
        """Returns the data set of a split; ConfigError if there is none."""

    @property
    def prompt_name(self) -> str:
        return self.template or self.usual_template

    @property
    def prompt(self) -> Template:
        """The template that makes a prompt of a question."""
        return template_named(self.prompt_name)

    @property
    def judge(self) -> str:
        return self.prompt.judge

    @property
    def headline(self) -> str:
        return self.prompt.headline

    def rows(self, split: Split, limit: int | None = None) -> list[Row]:
        self.check_split(split)
        data_set = self.data_set(split)
        examples = data_set.examples(self.path, check=self.check)
        return [
            make_row(
                data_set.data_source,
                data_set.split,
                index,
                question=example.question,
                gold=example.gold,
                prompt=self.prompt(example.question),
                worked=example.worked,
                tolerance=example.tolerance,
                unordered=example.unordered,
            )
            for index, example in enumerate(examples)
            if self.keeps(example)
        ][:limit]

    def keeps(self, example: Example) -> bool:
        """Returns True for an example that becomes a row; `extra_info.index` counts all of them."""
        return True

    def num_rows(self, split: Split) -> int | None:
        return self.data_set(split).num_rows

    def sources(self, split: Split) -> tuple[Source, ...]:
        return (self.data_set(split).source(self.path),)


def digest_of(examples: Iterable[Example]) -> str:
    """Returns the sha256 over (question, gold) in order; a run of white space counts as a space."""
    digest = hashlib.sha256()
    for example in examples:
        pair = [" ".join(example.question.split()), " ".join(example.gold.split())]
        digest.update(json.dumps(pair).encode() + b"\n")
    return digest.hexdigest()
