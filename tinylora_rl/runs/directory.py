"""Names, locks and reads the directory of a run."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tinylora_rl.atomic import append_line
from tinylora_rl.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class RunDirectory:
    """Names the files inside `runs/<recipe>/<time>/`."""

    path: Path

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def vectors(self) -> Path:
        return self.path / "v.jsonl"

    @property
    def log(self) -> Path:
        return self.path / "log.txt"

    @property
    def figure(self) -> Path:
        return self.path / "reward.png"

    @property
    def samples(self) -> Path:
        return self.path / "samples"

    @property
    def samples_page(self) -> Path:
        return self.path / "samples.html"

    @property
    def adapter(self) -> Path:
        return self.path / "adapter"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def data(self) -> Path:
        return self.path / "data"


@contextmanager
def exclusive(directory: Path) -> Iterator[None]:
    """Locks `directory` against other runs. The lock ends with the process, however it ends.

    Raises:
        ConfigError: another process has locked it.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                f"run.dir={directory}: another run is writing there; wait for it, or give another"
            ) from None
        yield


class MetricsFile:
    """Appends one JSON object a step to a file, as a tracking backend of verl's."""

    def __init__(self, path: Path) -> None:
        self._path = path
        if path.exists() and not path.read_bytes().endswith(b"\n"):
            with path.open("a") as file:
                file.write("\n")  # a killed run's torn line must not swallow the next

    def log(self, data: Mapping[str, Any], step: int) -> None:
        row = {"step": int(step), **{key: _number(value) for key, value in data.items()}}
        append_line(self._path, json.dumps(row, allow_nan=False), durable=True)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Returns the steps in `path` in order, one dictionary each; lines of one step are merged."""
    steps: dict[int, dict[str, Any]] = {}
    for row in _rows(path):
        steps.setdefault(row["step"], {}).update(row)
    return [steps[step] for step in sorted(steps)]


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    if not path.exists():
        return
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            continue  # the torn last line of a killed run


def _number(value: Any) -> Any:
    """Returns a value that JSON can hold: None for a number that is not finite (a share of 0)."""
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value
