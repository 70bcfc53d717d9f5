"""Reads records as they are published: from a file, a web address, or the Hugging Face hub."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from tinylora_rl.errors import ConfigError


@dataclass(frozen=True)
class Record:
    """One record, and its place in a file, for messages."""

    place: str
    values: Any

    def text(self, column: str) -> str:
        """Returns the text of a column; ConfigError if it is missing or holds something else."""
        value = self.value(column)
        if not isinstance(value, str):
            raise ConfigError(f"{self.place}: {column}={value!r} is not text; fix or drop that row")
        return value

    def value(self, column: str) -> Any:
        """Returns the value of a column; ConfigError if there is no such column."""
        if not isinstance(self.values, dict) or column not in self.values:
            found = ", ".join(self.values) if isinstance(self.values, dict) else "not an object"
            raise ConfigError(
                f"{self.place}: no column {column!r} (found: {found}); fix or drop that row"
            )
        return self.values[column]


@dataclass(frozen=True)
class LocalPath:
    """A file or folder of this machine. `url` is None: no server is asked."""

    path: Path
    url: None = None

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True, kw_only=True)
class HubFiles:
    """A split of a data set of the Hugging Face hub."""

    repo: str
    revision: str | None
    config: str | None = None
    data_files: str | None = None
    split: str
    given: str = "null"  # the value of data.path that led here, for messages

    def __str__(self) -> str:
        files = f"/{self.data_files}" if self.data_files else ""
        return f"{self.repo}{files} of the Hugging Face hub, revision {self.revision or 'main'}"

    @property
    def url(self) -> str:
        """The address of the hub, or of the mirror that HF_ENDPOINT names."""
        from huggingface_hub.constants import ENDPOINT

        return str(ENDPOINT)

    def records(self) -> Iterator[Record]:
        """Loads the split into the cache of `datasets`; ConfigError with the reason if it fails."""
        import datasets

        given = {"name": self.config, "data_files": self.data_files}
        chosen = {key: value for key, value in given.items() if value is not None}
        try:
            dataset = datasets.load_dataset(
                self.repo, **chosen, revision=self.revision, split=self.split
            )
        except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
            raise _not_loaded(self.given, self, error) from error
        for number, values in enumerate(dataset):
            yield Record(f"{self}: row {number}", values)


@dataclass(frozen=True)
class WebFile:
    """A jsonl file at a web address."""

    url: str

    def __str__(self) -> str:
        return self.url

    def records(self) -> Iterator[Record]:
        """Loads the file into the cache of `datasets`; ConfigError with the reason if it fails."""
        import datasets

        try:
            file = datasets.DownloadManager().download(self.url)
        except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
            raise _not_loaded("null", self, error) from error
        return _read_jsonl(Path(file), str(self))


Source = LocalPath | HubFiles | WebFile
"""A place that rows are read from. Its text is for messages, its `url` the server it needs."""


def read_file(file: Path, place: str) -> Iterator[Record]:
    """Yields the records of a .jsonl or .parquet file; `place` opens the messages."""
    return _read_parquet(file, place) if file.suffix == ".parquet" else _read_jsonl(file, place)


def _read_jsonl(file: Path, place: str) -> Iterator[Record]:
    # Bytes, because text mode raises on bad UTF-8 without saying in which line.
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            here = f"{place} line {number}"
            try:
                values = json.loads(line, parse_float=Decimal)  # no digit is lost
            except ValueError as error:  # JSONDecodeError and UnicodeDecodeError
                raise ConfigError(f"{here}: not JSON ({error}); fix or drop that line") from error
            yield Record(here, values)


def _read_parquet(file: Path, place: str) -> Iterator[Record]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(file)
    except (OSError, pa.ArrowException) as error:
        raise ConfigError(
            f"{place}: not a parquet file ({_one_line(error)}); get it anew"
        ) from error
    for number, values in enumerate(table.to_pylist()):
        yield Record(f"{place} row {number}", values)


def _not_loaded(given: str, source: HubFiles | WebFile, error: Exception) -> ConfigError:
    return ConfigError(
        f"data.path={given} ({source}): not loaded ({_one_line(error)}); offline, point data.path "
        "at a folder holding the file"
    )


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
