"""An adapter in a dozen lines, for a terminal and for the model card. No torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tinylora_rl.artifact.manifest import MANIFEST
from tinylora_rl.artifact.payload import PAYLOAD, values

SHOWN_VALUES = 16
SHOWN_CHARACTERS = 200


def summarise(manifest: Mapping[str, Any], numbers: bytes) -> list[tuple[str, str]]:
    """Returns (label, value) pairs of a verified adapter; all printable, whoever wrote it."""
    config = manifest["config"]
    provenance = manifest["provenance"]
    v = values(numbers, manifest["payload_dtype"])
    num_groups, u = manifest["payload_shape"]
    rows: list[tuple[str, Any]] = [
        ("numbers", f"{manifest['num_parameters']} = u {u} x {num_groups} groups"),
        ("payload", f"{manifest['payload_bytes']} bytes, {manifest['payload_dtype']}"),
        ("modules", f"{manifest['num_modules']}: {_listed(config.get('target_modules'))}"),
        ("tying", f"{config.get('tie_mode')}, n_tie {config.get('n_tie')}"),
        ("SVD", f"r {config.get('r')}, split {config.get('svd_split')}"),
        ("P", f"{config.get('projection')}, seed {config.get('seed')}"),
        ("|v|", f"{math.hypot(*v):.6g}, largest {max(map(abs, v)):.6g}"),
    ]
    if len(v) <= SHOWN_VALUES:
        rows.append(("v", " ".join(f"{value:.6g}" for value in v)))
    for key, value in provenance.items():
        if key != "metrics":
            rows.append((key, value))
    rows += [(name, f"{value:.6g}") for name, value in provenance.get("metrics", {}).items()]
    rows += [
        ("base dtype", manifest["base_dtype"]),
        ("base digest", manifest["identity"]["base_digest"]),
        ("P digest", manifest["identity"]["projection_digest"]),
        ("digest", f"{manifest['digest']} (verified: {MANIFEST}, {PAYLOAD})"),
        ("versions", " ".join(f"{name} {of}" for name, of in manifest["versions"].items())),
        ("created", manifest["created"]),
    ]
    return [(printable(name), printable(value)) for name, value in rows]


def render_table(rows: Sequence[tuple[str, str]]) -> str:
    """Returns one line per row, the values aligned."""
    width = max((len(name) for name, _ in rows), default=0)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


def printable(value: object) -> str:
    """Returns one short line of `value` without control characters, which could move the cursor."""
    text = escaped(str(value))
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[: SHOWN_CHARACTERS - 3]}..."


def escaped(text: str) -> str:
    """Escapes control characters and what is no Unicode: a stranger's text moves no cursor."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def _listed(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
