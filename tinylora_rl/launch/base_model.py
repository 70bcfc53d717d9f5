"""The base model of a verb: a folder, or a hub id made into one; looked at before it is used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tinylora_rl.artifact.checkpoint import checkpoint_folder
from tinylora_rl.errors import ConfigError


def local_base_model(path: str) -> tuple[Path, Any]:
    """The folder of the model's files, downloaded where `path` is a hub id, and its tokenizer.

    Raises:
        ConfigError: with key, value and mend.
    """
    try:
        folder = checkpoint_folder(path)
    except ValueError as error:
        raise ConfigError(f"base_model.path={error}") from error
    return folder.resolve(), checked_tokenizer(path, folder)


def checked_tokenizer(path: str, folder: Path | str) -> Any:
    """The tokenizer of a chat model.

    Raises:
        ConfigError: there is none, or it has no chat template.
    """
    from transformers import AutoTokenizer

    if Path(folder).is_dir() and not any(Path(folder).glob("tokenizer*")):
        raise ConfigError(
            f"base_model.path={path}: no tokenizer files; copy tokenizer.json and its config there"
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(
            f"base_model.path={path}: no usable tokenizer ({first_line(error)})"
        ) from error
    if tokenizer.chat_template is None:
        raise ConfigError(
            f"base_model.path={path}: the tokenizer has no chat template; use an Instruct model"
        )
    return tokenizer


def first_line(error: BaseException) -> str:
    """What an error says, in one line."""
    text = str(error).strip()
    return text.splitlines()[0].rstrip(".") if text else type(error).__name__
