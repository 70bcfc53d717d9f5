"""From what a user names (folders, files, W&B addresses) to records of runs and evaluations."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from tinylora_rl.errors import ConfigError
from tinylora_rl.studies.evaluations import Evaluation, is_evaluation, read_evaluation
from tinylora_rl.studies.records import RunRecord, is_run, read_run
from tinylora_rl.studies.wandb_api import PREFIX, read_wandb_api
from tinylora_rl.studies.wandb_file import find_wandb_file, read_wandb_file


@dataclasses.dataclass(frozen=True, kw_only=True)
class Found:
    """What is at the addresses: each run and each evaluation once, with distinct names."""

    runs: tuple[RunRecord, ...]
    evaluations: tuple[Evaluation, ...]


def find_records(addresses: Sequence[str]) -> Found:
    """Everything at `addresses`: run directories, evaluation directories, their parents at any
    depth, W&B's offline directories and files, `wandb:ENTITY/PROJECT[/RUN]`.

    A W&B directory inside of a run directory is the same run, and is passed over.

    Raises:
        ConfigError: an address leads nowhere, no training run is found, or one is damaged.
        MachineError: a W&B server does not answer.
    """
    paths: dict[Path, None] = {}
    online: list[RunRecord] = []
    for address in addresses:
        if address.startswith(PREFIX):
            online += read_wandb_api(address)
            continue
        path = Path(address).expanduser()
        if not path.exists():
            raise ConfigError(f"run={address}: no such folder; give run directories or parents")
        found = list(_directories(path))
        if not found:
            raise ConfigError(
                f"run={address}: no run in it (config.yaml beside metrics.jsonl, run-*.wandb or "
                "results.json); give the folder that a run wrote, or a parent"
            )
        paths.update(dict.fromkeys(item.resolve() for item in found))
    names = _names(list(paths))
    runs, evaluations = [], []
    for path, name in names.items():
        wandb_file = find_wandb_file(path)
        if is_run(path):
            runs.append(read_run(path, name))
        elif is_evaluation(path):
            evaluations.append(read_evaluation(path, name))
        elif wandb_file is not None:
            runs.append(read_wandb_file(wandb_file, name))
    runs += online
    if not runs and not evaluations:
        raise ConfigError(f"run={' '.join(addresses)}: no run there; give folders that runs wrote")
    return Found(runs=tuple(runs), evaluations=tuple(evaluations))


def _directories(path: Path) -> Iterator[Path]:
    """Runs at or under `path`, in the order of their names; nothing is looked for inside a run."""
    if path.is_file():
        if path.suffix == ".wandb":
            yield path
        return
    if is_run(path) or is_evaluation(path) or find_wandb_file(path):
        yield path
        return
    with os.scandir(path) as entries:
        folders = sorted(
            entry.name
            for entry in entries
            if entry.is_dir(follow_symlinks=False) and not entry.name.startswith(".")
        )
    for name in folders:
        yield from _directories(path / name)


def _names(paths: list[Path]) -> dict[Path, str]:
    """{path: its part below the folder that all have in common, which tells it from the others}."""
    if len(paths) < 2:
        return {path: path.name for path in paths}
    common = Path(os.path.commonpath(paths))
    return {path: path.relative_to(common).as_posix() for path in paths}
