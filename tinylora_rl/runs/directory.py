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


class _Inside:
    """A path inside the directory of a run."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, run: RunDirectory, owner: object) -> Path:
        return run.path / self._name


@dataclasses.dataclass(frozen=True)
class RunDirectory:
    """Names the files inside `runs/<recipe>/<time>/`."""

    path: Path

    config = _Inside("config.yaml")
    metrics = _Inside("metrics.jsonl")
    vectors = _Inside("v.jsonl")
    log = _Inside("log.txt")
    figure = _Inside("reward.png")
    samples = _Inside("samples")
    samples_page = _Inside("samples.html")
    adapter = _Inside("adapter")
    checkpoints = _Inside("checkpoints")
    data = _Inside("data")


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


def held_out(row: Mapping[str, Any]) -> dict[str, float]:
    """Returns {"sampled" or "greedy": accuracy} where this step was validated.

    With several benchmarks the names are "BENCHMARK sampled" and "BENCHMARK greedy".
    """
    found = {}
    for key, value in row.items():
        if key.startswith("val-core/") and "/acc/mean@" in key:
            source = key.removeprefix("val-core/").partition("/acc/")[0]
            benchmark = source.removesuffix("_greedy")
            found[benchmark, "greedy" if benchmark != source else "sampled"] = value
    several = len({benchmark for benchmark, _ in found}) > 1
    return {
        f"{benchmark} {decoding}" if several else decoding: value
        for (benchmark, decoding), value in found.items()
    }


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
