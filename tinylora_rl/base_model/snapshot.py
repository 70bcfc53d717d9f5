"""The files of a base model: a folder as it is, a Hub id as its snapshot in the Hub's cache."""

from __future__ import annotations

import re
from pathlib import Path

MODEL_FILES = ["*.safetensors", "*.json", "*.jinja", "*.txt", "*.model"]


def checkpoint_folder(base: str | Path, *, revision: str | None = None) -> Path:
    """The folder that holds the model called `base`, downloaded where it is not there yet.

    Raises:
        ValueError: a path that is no folder; or the Hub cannot give it (one line says why).
    """
    folder = Path(base).expanduser()
    if folder.is_dir():
        return folder
    if str(base).startswith(("/", ".", "~")):
        raise ValueError(f"{base}: no such folder; give a folder or a hub id")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return Path(snapshot_download(str(base), revision=revision, allow_patterns=MODEL_FILES))
    except (OSError, ValueError, HfHubHTTPError, HFValidationError) as error:
        reason = str(error).strip().splitlines()[0].rstrip(".")
        raise ValueError(f"{base}: not loaded from the Hub ({reason}); give a folder") from error


def revision_of(folder: Path) -> str | None:
    """The commit of a snapshot in the Hub's cache, `.../snapshots/<commit>`; None elsewhere."""
    folder = folder.resolve()
    is_commit = re.fullmatch(r"[0-9a-f]{40}", folder.name) is not None
    return folder.name if folder.parent.name == "snapshots" and is_commit else None
