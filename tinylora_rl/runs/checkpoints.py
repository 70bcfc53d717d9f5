"""Commits the checkpoint of a step by a manifest, and verifies checkpoints against theirs.

`manifest.json` of a folder `global_step_N` is written after everything else in it and everything
else about the step, and lists size and sha256 of every file. A folder without one belongs to a step
that a kill interrupted; one whose files differ from its manifest was damaged afterwards.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
import shutil
from pathlib import Path

from tinylora_rl.atomic import naming_full_disk, read_json, sync, write_json

MANIFEST = "manifest.json"
FORMAT = 1


@dataclasses.dataclass(frozen=True)
class CheckpointSearch:
    """Holds the result of `newest_good`."""

    folder: Path | None  # the newest checkpoint that is intact
    faults: dict[Path, str]  # {newer folder: its fault}, newest first
    num_committed: int  # of those with a manifest: complete once, and damaged since


def step_of(folder: Path) -> int | None:
    """Returns N of a path `.../global_step_N`; None for any other path."""
    match = re.fullmatch(r"global_step_(\d+)", folder.name)
    return int(match[1]) if match else None


def step_folders(checkpoints: Path) -> list[Path]:
    """Returns the folders of steps in `checkpoints`, newest first, complete or not."""
    folders = [
        folder for folder in checkpoints.glob("global_step_*") if step_of(folder) is not None
    ]
    return sorted(folders, key=lambda folder: step_of(folder) or 0, reverse=True)


def commit(folder: Path) -> None:
    """Flushes everything in `folder` to the disk, then writes its manifest; or DiskFullError."""
    files = {}
    with naming_full_disk(folder):
        for path in sorted(folder.rglob("*")):
            sync(path)
            if path.is_file():
                name = path.relative_to(folder).as_posix()
                files[name] = {"bytes": path.stat().st_size, "sha256": _sha256(path)}
        sync(folder)
        sync(folder.parent)
    write_json(folder / MANIFEST, {"format": FORMAT, "step": step_of(folder), "files": files})


def discard(folder: Path) -> None:
    """Removes `folder`, its manifest first: a kill in between leaves an uncommitted checkpoint."""
    manifest = folder / MANIFEST
    if manifest.exists():
        manifest.unlink()
        sync(folder)
    shutil.rmtree(folder, ignore_errors=True)


def fault(folder: Path) -> str | None:
    """Reads every file of a checkpoint and returns its fault; None where it is intact."""
    if not (folder / MANIFEST).exists():
        return f"was not finished (no {MANIFEST})"
    manifest = read_json(folder / MANIFEST)
    if manifest is None or manifest.get("format") != FORMAT or not manifest.get("files"):
        return f"is damaged ({MANIFEST} is no manifest of format {FORMAT})"
    for name, stated in manifest["files"].items():
        path = folder / name
        if not path.is_file():
            return f"is damaged ({name} is missing)"
        if path.stat().st_size != stated["bytes"]:
            return f"is damaged ({name} has {path.stat().st_size} bytes, not {stated['bytes']})"
        if _sha256(path) != stated["sha256"]:
            return f"is damaged ({name} has another sha256)"
    return None


def newest_good(checkpoints: Path) -> CheckpointSearch:
    """Finds the newest intact checkpoint in `checkpoints`, and the faults of newer ones."""
    faults: dict[Path, str] = {}
    num_committed = 0
    for folder in step_folders(checkpoints):
        reason = fault(folder)
        if reason is None:
            return CheckpointSearch(folder, faults, num_committed)
        faults[folder] = reason
        num_committed += (folder / MANIFEST).exists()
    return CheckpointSearch(None, faults, num_committed)


def kept(checkpoints: Path) -> list[str]:
    """Returns a line on the last committed step, if there is one. Verifies no file."""
    for folder in step_folders(checkpoints):
        if (folder / MANIFEST).exists():
            step = step_of(folder)
            return [f"kept              all up to step {step}; the same command goes on from there"]
    return []


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
