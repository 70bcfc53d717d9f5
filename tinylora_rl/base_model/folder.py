"""The files of a base model: a folder as it is, a Hub id as its snapshot in the Hub's cache."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from tinylora_rl.errors import ConfigError, first_line

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from tinylora_rl.adapter import CheckpointWeights

MODEL_FILES = ["*.safetensors", "*.json", "*.jinja", "*.txt", "*.model"]


def checkpoint_folder(base: str | Path, *, revision: str | None = None) -> Path:
    """Returns the folder that holds the model `base`, downloaded where it is not here yet.

    huggingface_hub 1.33 asks the Hub for a commit's list of files unless it made the cached copy
    itself; so where the Hub is out of reach, a commit is looked for in the cache alone.

    Raises:
        ValueError: a path that is no folder; or the Hub cannot give it (one line gives the reason).
    """
    folder = Path(base).expanduser()
    if folder.is_dir():
        return folder.resolve()
    if _is_path(base):
        raise ValueError(f"{base}: no such folder; give a folder or a hub id")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        found = snapshot_download(str(base), revision=revision, allow_patterns=MODEL_FILES)
    except (OSError, ValueError, HfHubHTTPError, HFValidationError) as error:
        if revision is not None:
            with suppress(LocalEntryNotFoundError, HFValidationError):
                cached = snapshot_download(str(base), revision=revision, local_files_only=True)
                return Path(cached).resolve()
        raise ValueError(
            f"{base}: not loaded from the Hub ({first_line(error)}); give a folder"
        ) from error
    return Path(found).resolve()


def local_folder(base: str | Path, *, revision: str | None = None) -> Path | None:
    """Returns the folder of the model `base` where its weights are on this machine already.

    A name that can only be a path is returned as it is, though it may not exist.
    """
    folder = Path(base).expanduser()
    if folder.is_dir() or _is_path(base):
        return folder
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(str(base), "config.json", revision=revision)
    except HFValidationError:  # no id of a repository; whoever loads it reports that
        return None
    if not isinstance(found, str) or not any(Path(found).parent.glob("*.safetensors")):
        return None
    return Path(found).parent


def commit_of(folder: Path) -> str | None:
    """Returns the commit of a snapshot in the Hub's cache, `.../snapshots/<commit>`, else None."""
    folder = folder.resolve()
    is_commit = re.fullmatch(r"[0-9a-f]{40}", folder.name) is not None
    return folder.name if folder.parent.name == "snapshots" and is_commit else None


def refuse_code_of_its_own(base: str, folder: Path, *, key: str = "base_model.path") -> None:
    """Refuses a model of which a configuration file names Python code to run.

    Why not leave it to `trust_remote_code`: verl 0.9.1 opens the actor's tokenizer with
    trust_remote_code=True in its reward workers (RewardLoopWorker._init_reward_fn), whatever the
    configuration says, and such a name may point to any repository of the hub. Remove when
    `test_verl_trusts_code_in_its_reward_workers` fails.

    Raises:
        ConfigError: with the file and the fix.
    """
    for file in sorted(folder.glob("*config.json")):
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise ConfigError(
                f"{key}={base}: {file.name} is not JSON ({first_line(error)})"
            ) from error
        if isinstance(content, dict) and content.get("auto_map"):
            raise ConfigError(
                f"{key}={base}: {file.name} names code of its own (auto_map), which is never run; "
                "where transformers knows the architecture itself, remove auto_map from a copy"
            )


def open_weights(base: str | Path, *, revision: str | None = None) -> CheckpointWeights:
    """Opens a safetensors checkpoint, folder or hub id; ValueError if it is none."""
    from tinylora_rl.adapter import CheckpointWeights

    return CheckpointWeights(checkpoint_folder(base, revision=revision))


def load_model(
    base: str | Path, *, dtype: torch.dtype | None, revision: str | None = None
) -> PreTrainedModel:
    """Loads the model in a folder or hub id to the CPU: safetensors alone, no code of its own.

    `dtype` None takes the checkpoint's own. OSError if there is no such model.
    """
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(
        base,
        dtype="auto" if dtype is None else dtype,
        revision=revision,
        trust_remote_code=False,
        use_safetensors=True,
    ).eval()


def _is_path(base: str | Path) -> bool:
    return str(base).startswith(("/", ".", "~"))
