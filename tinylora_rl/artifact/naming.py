"""The directory and the default name of an adapter, given an adapter or a run. No torch."""

from __future__ import annotations

import re
from pathlib import Path

from tinylora_rl.artifact.manifest import MANIFEST

IN_RUN = "adapter"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
NAME_RULE = "letters, digits, '.', '_' and '-', at most 100, a letter or digit first"
"""Names are shown, requested by clients, and become names of files."""


def adapter_dir(directory: str | Path) -> Path:
    """Returns `directory`, or the newest adapter in it where it is a run directory."""
    directory = Path(directory)
    inside = directory / IN_RUN
    return inside if not (directory / MANIFEST).exists() and inside.is_dir() else directory


def default_name(directory: Path) -> str:
    """Returns the name of an adapter without one: its run's, or its own directory's."""
    directory = directory.resolve()
    return (directory.parent if directory.name == IN_RUN else directory).name
