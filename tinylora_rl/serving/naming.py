"""Which adapters are meant, and what clients call them."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

from tinylora_rl.artifact import NAME, NAME_RULE, adapter_dir
from tinylora_rl.artifact.naming import default_name


def named_adapters(given: Iterable[str], reserved: Collection[str]) -> dict[str, Path]:
    """{name: adapter directory} of entries DIR or NAME=DIR; a run directory gives its own name.

    Args:
        reserved: names that mean something else.

    Raises:
        ValueError: no such folder, or a name that is none, taken or reserved.
    """
    named: dict[str, Path] = {}
    for entry in given:
        name, path = _split(entry)
        folder = Path(path).expanduser().resolve()
        if not folder.is_dir():
            raise ValueError(
                f"adapters={entry}: no such folder; give directories, or NAME=DIR (download one "
                "from the Hub first: hf download OWNER/NAME --local-dir DIR)"
            )
        directory = adapter_dir(folder)
        name = name or default_name(directory)
        check_name(name, reserved)
        if name in named:
            raise ValueError(
                f"adapters={entry}: {named[name]} is called {name}, too; name them: NAME=DIR"
            )
        named[name] = directory
    return named


def check_name(name: str, reserved: Collection[str]) -> None:
    """Clients can ask for `name` and mean this adapter alone.

    Raises:
        ValueError: they cannot.
    """
    if not NAME.fullmatch(name):
        raise ValueError(f"{name!a:.120}: is no name for an adapter; use {NAME_RULE}")
    if name in reserved:
        raise ValueError(f"{name}: is the name of something else served here; choose another")


def _split(entry: str) -> tuple[str | None, str]:
    name, equals, path = entry.partition("=")
    if not equals or Path(entry).expanduser().is_dir():
        return None, entry
    return name, path
