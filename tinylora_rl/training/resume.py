"""Where a run begins: at nothing, at its own newest checkpoint, or at another run's.

`trainer.resume` is `auto`, `never` or a path. Decided before anything is started, so that a damaged
or foreign checkpoint is a line on the console and not an error an hour later.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from tinylora_rl.adapter.config import TinyLoraConfig
from tinylora_rl.base_model import BaseModel
from tinylora_rl.errors import ConfigError
from tinylora_rl.runs.checkpoints import CheckpointSearch, fault, newest_good, step_folders, step_of
from tinylora_rl.settings.security import refuse_pickled_code

ADAPTER_DIRS = {"train": Path("actor", "adapter"), "sft": Path("adapter")}  # in a step's folder
DATA_FILES = {"train": "data.pt", "sft": "data_0.pt"}


@dataclasses.dataclass(frozen=True)
class Beginning:
    """Where a run begins, and why there.

    Attributes:
        checkpoint: the folder `global_step_N` that the run goes on from; None is step 0.
        lines: what a person has to know about that.
    """

    checkpoint: Path | None
    lines: tuple[str, ...] = ()


def choose_beginning(config: DictConfig, adapter: TinyLoraConfig | None) -> Beginning:
    """The checkpoint that `trainer.resume` means, verified: every file of it is read.

    Raises:
        ConfigError: there is none where one is asked for, there are some where none may be, all are
            damaged, or the one is of another verb, adapter or base model.
    """
    resume = str(config.trainer.resume)
    own = Path(config.trainer.default_local_dir)
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
        _check_verb(config, checkpoint)
        refuse_pickled_code(checkpoint)
        _check_adapter(config, adapter, checkpoint)
        if checkpoint.parent != own:
            _check_length(config, checkpoint)
            _check_base(config, adapter, checkpoint)
    return beginning


def begin_at(config: DictConfig, checkpoint: Path | None) -> None:
    """verl's trainers load `checkpoint`."""
    with open_dict(config):
        config.trainer.resume_mode = "disable" if checkpoint is None else "resume_path"
        config.trainer.resume_from_path = None if checkpoint is None else str(checkpoint)


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
    """The checkpoint that a path outside of this run means."""
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


def _check_verb(config: DictConfig, checkpoint: Path) -> None:
    for verb, file in DATA_FILES.items():
        if verb != config.verb and (checkpoint / file).exists():
            raise ConfigError(
                f"trainer.resume={checkpoint}: is a checkpoint of tinylora_rl.{verb}; this is "
                f"tinylora_rl.{config.verb}"
            )


def _check_length(config: DictConfig, checkpoint: Path) -> None:
    key = "trainer.total_training_steps" if config.verb == "train" else "sft.steps"
    steps, reached = OmegaConf.select(config, key), step_of(checkpoint) or 0
    if steps is not None and reached >= steps:
        raise ConfigError(
            f"{key}={steps}: trainer.resume={checkpoint} has made {reached} already; give more, or "
            "an earlier checkpoint"
        )


def _check_adapter(config: DictConfig, adapter: TinyLoraConfig | None, checkpoint: Path) -> None:
    manifest = _adapter_manifest(config, checkpoint)
    if (manifest is None) != (adapter is None):
        kinds = ("a TinyLoRA adapter", "no TinyLoRA adapter")
        here, there = kinds if manifest is None else kinds[::-1]
        raise ConfigError(f"trainer.resume={checkpoint}: is of {there}, this run trains {here}")
    if manifest is None or adapter is None:
        return
    saved = TinyLoraConfig.from_dict(manifest["config"]).to_dict()
    different = [
        f"adapter.{key}={value} here, {saved[key]} there"
        for key, value in adapter.to_dict().items()
        if value != saved[key]
    ]
    if different:
        raise ConfigError(
            f"trainer.resume={checkpoint}: is of another adapter ({'; '.join(different)}); resume "
            "with the same, or give another run.dir"
        )


def _check_base(config: DictConfig, adapter: TinyLoraConfig | None, checkpoint: Path) -> None:
    """The base models are one: of another run's checkpoint the paths say little."""
    manifest = _adapter_manifest(config, checkpoint)
    if manifest is None or adapter is None:
        return
    from tinylora_rl.adapter import targets_of
    from tinylora_rl.adapter.digests import base_digest

    base = config.base_model
    weights = BaseModel(base.path, base.get("revision")).weights
    targets = targets_of(weights.names(), TinyLoraConfig.from_dict(manifest["config"]))
    here, there = base_digest(weights, targets), manifest["identity"]["base_digest"]
    if here != there:
        raise ConfigError(
            f"trainer.resume={checkpoint}: was trained on another base model (base_digest "
            f"{there[:12]}; {base.path} has {here[:12]}); give base_model.path="
            f"{manifest['provenance'].get('base_model')}"
        )


def _adapter_manifest(config: DictConfig, checkpoint: Path) -> Mapping[str, Any] | None:
    from tinylora_rl.artifact import MANIFEST, read_manifest

    folder = checkpoint / ADAPTER_DIRS[config.verb]
    return read_manifest(folder) if (folder / MANIFEST).exists() else None
