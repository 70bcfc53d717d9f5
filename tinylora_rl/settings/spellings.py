"""Older spellings of keys on the command line: accepted, with a hint."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_REWARD_KWARGS = "reward.custom_reward_function.reward_kwargs"
RENAMED = {
    "platform": "device",
    "engine": "device",
    "engine.options": "device.engine.options",
    "engine.env": "device.engine.env",
    f"{_REWARD_KWARGS}.deadline_s": "grading.deadline_s",
    f"{_REWARD_KWARGS}.memory_limit_mb": "grading.memory_limit_mb",
    f"{_REWARD_KWARGS}.num_workers": "grading.num_workers",
}
"""{old key: new key}; keys below an old one are renamed with it."""

SAME = {"adapter=tinylora_u13": "adapter=tinylora"}
"""{old override: new override} of choices that went because another said the same."""

_OVERRIDE = re.compile(r"(?P<sign>[+~]*)(?P<key>[\w./@-]+)(?P<rest>=.*)?", re.DOTALL)


def translated(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Returns command line arguments in today's spelling, and a hint for each that changed."""
    current, hints = [], []
    for argument in arguments:
        renamed = _renamed(argument)
        current.append(renamed)
        if renamed != argument:
            hints.append(f"{argument}: is now spelled {renamed}")
    return current, hints


def current_keys(keys: Iterable[str]) -> list[str]:
    """Returns dotted keys in today's spelling."""
    return [_renamed(key) for key in keys]


def _renamed(argument: str) -> str:
    if argument in SAME:
        return SAME[argument]
    parts = _OVERRIDE.fullmatch(argument)
    if parts is None or argument.startswith("--"):
        return argument
    key = parts["key"]
    for old in sorted(RENAMED, key=len, reverse=True):
        if key == old or (key.startswith(f"{old}.") and old not in ("platform", "engine")):
            return f"{parts['sign']}{RENAMED[old]}{key[len(old) :]}{parts['rest'] or ''}"
    return argument
