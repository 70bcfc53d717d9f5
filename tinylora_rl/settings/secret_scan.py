"""Keeps secrets out of the configuration, which is printed, saved and published."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any

from tinylora_rl.errors import ConfigError

SECRET_NAME = re.compile(
    r"(?i)(^|[_-])(api[_-]?key|secret([_-](access[_-])?key)?|token|password|passwd|credentials?)$"
)
"""Names of keys and of environment variables whose value is nobody's business."""
VOCABULARY = re.compile(
    r"(?i)(eos|bos|eot|eom|sep|cls|pad|unk|mask|stop|tool|image|video|audio)_token$"
)

SECRET_SHAPES = (
    r"\bhf_[A-Za-z0-9]{30,}",  # Hugging Face
    r"\bwandb_v\d+_[A-Za-z0-9_]{20,}",
    r"\bsk-([a-z]{2,4}-)?[A-Za-z0-9_]{20,}",  # OpenAI and its likes
    r"\b(gh[pousr]_|github_pat_|glpat-)[A-Za-z0-9_-]{16,}",
    r"\bAKIA[0-9A-Z]{16}\b",
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----",
    r"://[^/\s:@]+:[^/\s@]+@",  # a password in an address
)
SECRET_SHAPE = re.compile("|".join(SECRET_SHAPES))
FROM_ENVIRONMENT = re.compile(r"\$\{oc\.env:\s*([A-Za-z_][A-Za-z0-9_]*)")
LEAST_LENGTH = 12  # a shorter value of a variable called TOKEN is found by chance


def refuse_secrets(config: Any) -> None:
    """Refuses a configuration that holds a secret, or would once its interpolations are resolved.

    Args:
        config: plain values, interpolations unresolved.

    Found are keys that are named like a secret and hold a text, texts of a known shape, and what
    this process's environment holds under a name like a secret's. A W&B key is 40 hexadecimal
    digits as a commit is: it is found by its name and in the environment.

    Raises:
        ConfigError: with the key and the fix, and without the value.
    """
    known = environment_secrets()
    for key, value in leaves(config):
        reason = _why_secret(key, value, known) if isinstance(value, str) else None
        if reason:
            raise ConfigError(
                f"{key}: {reason} (not shown); configurations are written to disk: leave the key "
                "out, and set the variable in the environment that the run starts in"
            )


def environment_secrets() -> dict[str, str]:
    """{name: value} of the environment's variables that are named like secrets."""
    return {
        name: value
        for name, value in os.environ.items()
        if SECRET_NAME.search(name) and len(value) >= LEAST_LENGTH
    }


def _why_secret(key: str, text: str, known: dict[str, str]) -> str | None:
    for name in FROM_ENVIRONMENT.findall(text):
        if SECRET_NAME.search(name) or SECRET_SHAPE.search(os.environ.get(name, "")):
            return f"copies {name} out of the environment"
    for name, value in known.items():
        if value in text:
            return f"holds the value of {name}"
    if SECRET_SHAPE.search(text):
        return "looks like a secret"
    is_named = SECRET_NAME.search(key.rpartition(".")[2]) and not VOCABULARY.search(key)
    return "is named like a secret and has a value" if is_named and text else None


def leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yields (key, value) of nested dictionaries and lists; entries of a list have its key."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from leaves(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list):
        for inner in value:
            yield from leaves(inner, key)
    else:
        yield key, value
