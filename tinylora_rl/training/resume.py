"""Decides where a run begins: at step 0, at its own newest checkpoint, or at another run's.

`trainer.resume` is `auto`, `never` or a path. Decided before anything is started.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tinylora_rl.adapter.config import TinyLoraConfig
from tinylora_rl.errors import ConfigError
from tinylora_rl.runs.checkpoints import CheckpointSearch, fault, newest_good, step_folders, step_of
from tinylora_rl.settings.experiment import Experiment

ADAPTER_DIRS = {"train": Path("actor", "adapter"), "sft": Path("adapter")}  # in a step's folder
DATA_FILES = {"train": "data.pt", "sft": "data_0.pt"}


@dataclasses.dataclass(frozen=True)
class Beginning:
    """The checkpoint `global_step_N` that a run goes on from (None: step 0), and the reason."""

    checkpoint: Path | None
    lines: tuple[str, ...] = ()


def choose_beginning(experiment: Experiment) -> Beginning:
    """Finds the checkpoint that `trainer.resume` means, verified: every file of it is read.

    Raises:
        ConfigError: there is none where one is asked for, there are some where none may be, all are
            damaged, or the one is of another command, adapter or base model.
    """
    from tinylora_rl.artifact import MANIFEST, read_manifest

    resume, own = experiment.run.resume, experiment.checkpoints.dir
    if resume == "never":
        if step_folders(own):
            raise ConfigError(
                f"trainer.resume=never: {own} has checkpoints already; give another run.dir, or "
                "trainer.resume=auto to go on from them"
            )
        return Beginning(None)
    found = newest_good(own)
    beginning = _own(own, found)
    if resume != "auto":
        path = Path(resume).expanduser().resolve()
        if own.resolve() in path.parents:
            if found.folder is None or path != found.folder.resolve():
                raise ConfigError(
                    f"trainer.resume={resume}: this run went on from there; give another run.dir "
                    "to branch off, or trainer.resume=auto"
                )
        elif beginning.checkpoint is None:  # else the other run may be gone by now
            wanted = _named(path)
            beginning = Beginning(wanted, (f"resuming from     {wanted}",))
    checkpoint = beginning.checkpoint
    if checkpoint is not None:
        _check_command(experiment, checkpoint)
        refuse_pickled_code(checkpoint)
        folder = checkpoint / ADAPTER_DIRS[experiment.command]
        manifest = read_manifest(folder) if (folder / MANIFEST).exists() else None
        experiment.method.check_resumes(str(checkpoint), manifest)
        if checkpoint.parent != own:
            _check_length(experiment, checkpoint)
            if manifest is not None:
                _check_base(experiment, manifest, checkpoint)
    return beginning


def refuse_pickled_code(checkpoint: Path) -> None:
    """Checks that loading the position in the data (`data.pt`, `data_RANK.pt`) runs no code.

    verl 0.9.1 loads it with weights_only=False (trainer_base._load_checkpoint, CheckpointHandler).
    What torch loads with weights_only=True is the same either way.

    Raises:
        ConfigError: it holds more than numbers, texts, lists and dictionaries, or is damaged.
    """
    import torch

    for file in sorted(checkpoint.glob("data*.pt")):
        try:
            torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # whatever a file made by a stranger makes torch raise
            raise ConfigError(
                f"{file}: is damaged, or holds more than numbers ({type(error).__name__}), and "
                "loading it could run anything; resume from another checkpoint"
            ) from error


def _own(checkpoints: Path, found: CheckpointSearch) -> Beginning:
    lines = [f"checkpoint        {folder} {reason}" for folder, reason in found.faults.items()]
    if found.folder is not None:
        return Beginning(found.folder, (*lines, f"resuming from     {found.folder}"))
    # a kill leaves one unfinished folder, and from the first one a run begins anew
    if found.num_committed or len(found.faults) > 1:
        folder, reason = next(iter(found.faults.items()))
        raise ConfigError(
            f"trainer.resume=auto: none of the {len(found.faults)} checkpoints in {checkpoints} is "
            f"whole ({folder.name} {reason}); give another run.dir, or remove them to begin anew"
        )
    if lines:
        lines.append("beginning anew")
    return Beginning(None, tuple(lines))


def _named(path: Path) -> Path:
    """Finds the checkpoint that a path outside of this run names."""
    key = f"trainer.resume={path}"
    if step_of(path) is not None and path.is_dir():
        if reason := fault(path):
            raise ConfigError(f"{key}: {reason}; give an older one, or a run directory")
        return path
    checkpoints = path / "checkpoints" if (path / "checkpoints").is_dir() else path
    if not checkpoints.is_dir():
        raise ConfigError(
            f"{key}: no such folder; give auto, never, a checkpoint (.../global_step_N) or a run "
            "directory"
        )
    found = newest_good(checkpoints)
    if found.folder is None:
        reasons = "; ".join(f"{folder.name} {reason}" for folder, reason in found.faults.items())
        raise ConfigError(f"{key}: holds no whole checkpoint ({reasons or 'none at all'})")
    return found.folder


def _check_command(experiment: Experiment, checkpoint: Path) -> None:
    for command, file in DATA_FILES.items():
        if command != experiment.command and (checkpoint / file).exists():
            raise ConfigError(
                f"trainer.resume={checkpoint}: is a checkpoint of tinylora_rl.{command}; this is "
                f"tinylora_rl.{experiment.command}"
            )


def _check_length(experiment: Experiment, checkpoint: Path) -> None:
    key, steps = "trainer.total_training_steps", experiment.duration.steps
    if experiment.supervised is not None:
        key, steps = "sft.steps", experiment.supervised.steps
    reached = step_of(checkpoint) or 0
    if steps is not None and reached >= steps:
        raise ConfigError(
            f"{key}={steps}: trainer.resume={checkpoint} has made {reached} already; give more, or "
            "an earlier checkpoint"
        )


def _check_base(experiment: Experiment, manifest: Mapping[str, Any], checkpoint: Path) -> None:
    """Checks that the base models are one: paths say little of another run's checkpoint."""
    from tinylora_rl.adapter import targets_of
    from tinylora_rl.adapter.digests import base_digest

    base = experiment.base
    targets = targets_of(base.weights.names(), TinyLoraConfig.from_dict(manifest["config"]))
    here, there = base_digest(base.weights, targets), manifest["identity"]["base_digest"]
    if here != there:
        raise ConfigError(
            f"trainer.resume={checkpoint}: was trained on another base model (base_digest "
            f"{there[:12]}; {base.id} has {here[:12]}); give base_model.path="
            f"{manifest['provenance'].get('base_model')}"
        )
