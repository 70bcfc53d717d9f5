"""Finds the runs and evaluations at the folders and W&B addresses that a user names."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from tinylora_rl.errors import ConfigError
from tinylora_rl.studies.evaluations import Evaluation, is_evaluation, read_evaluation
from tinylora_rl.studies.records import RunRecord, is_run, read_run
from tinylora_rl.studies.wandb_server import PREFIX, read_server

WANDB_DEPTH = 3  # RUN/wandb/offline-run-*/run-*.wandb


@dataclasses.dataclass(frozen=True, kw_only=True)
class Records:
    """Each run and each evaluation once, with distinct names."""

    runs: tuple[RunRecord, ...]
    evaluations: tuple[Evaluation, ...]


def find_records(addresses: Sequence[str]) -> Records:
    """Reads all that is at `addresses`: run directories, evaluation directories, their parents at
    any depth, W&B's offline directory in a run's, `wandb:ENTITY/PROJECT[/RUN]`.

    Raises:
        ConfigError: an address leads nowhere, no training run is found, or one is damaged.
        MachineError: a W&B server does not answer.
    """
    paths: dict[Path, None] = {}
    online: list[RunRecord] = []
    for address in addresses:
        if address.startswith(PREFIX):
            online += read_server(address)
            continue
        path = Path(address).expanduser()
        if not path.exists():
            raise ConfigError(f"run={address}: no such folder; give run directories or parents")
        found = list(_directories(path))
        if not found and ("wandb" in path.parts or path.suffix == ".wandb"):
            found = [parent for parent in path.resolve().parents[:WANDB_DEPTH] if is_run(parent)]
        if not found:
            raise ConfigError(
                f"run={address}: no run in it (config.yaml beside metrics.jsonl, or results.json); "
                "give the folder that a run wrote, or a parent"
            )
        paths.update(dict.fromkeys(item.resolve() for item in found))
    names = _names(list(paths))
    runs, evaluations = [], []
    for path, name in names.items():
        if is_run(path):
            runs.append(read_run(path, name))
        else:
            evaluations.append(read_evaluation(path, name))
    if not runs and not evaluations and not online:
        raise ConfigError(f"run={' '.join(addresses)}: no run there; give folders that runs wrote")
    return Records(runs=(*runs, *online), evaluations=tuple(evaluations))


def _directories(path: Path) -> Iterator[Path]:
    """Yields runs at or under `path`, in the order of their names; none inside another."""
    if is_run(path) or is_evaluation(path):
        yield path
    elif path.is_dir():
        for entry in sorted(path.iterdir()):
            if entry.is_dir() and not entry.is_symlink() and not entry.name.startswith("."):
                yield from _directories(entry)


def _names(paths: list[Path]) -> dict[Path, str]:
    """Names each path by its part below the folder that all have in common."""
    if len(paths) < 2:
        return {path: path.name for path in paths}
    common = Path(os.path.commonpath(paths))
    return {path: path.relative_to(common).as_posix() for path in paths}
