"""`manifest.json`: all that gives v a meaning, and the digest over it.

The file is written in one way only, and a reader accepts no other: every bit of it counts. Its last
field, `digest`, is the sha256 of all other fields as canonical JSON (sorted keys, no spaces,
ASCII); `payload_sha256` among them covers every byte of the payload file. No torch.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tinylora_rl.artifact.files import (
    ITEM_BYTES,
    MANIFEST,
    PAYLOAD,
    ArtifactError,
    decode,
    num_bytes,
    read_bounded,
)
from tinylora_rl.artifact.provenance import Provenance

FORMAT = 2
MANIFEST_LIMIT_BYTES = 1 << 20
PAYLOAD_LIMIT_BYTES = 1 << 28  # 64 Mi numbers; the paper's largest TinyLoRA has 0.8 M


def render_manifest(fields: Mapping[str, Any]) -> bytes:
    """Returns the file that states `fields` and their digest; ValueError if it is too large."""
    text = _render({**fields, "digest": manifest_digest(fields)})
    if len(text) > MANIFEST_LIMIT_BYTES:
        raise ValueError(
            f"provenance: the manifest would take {len(text)} bytes, at most "
            f"{MANIFEST_LIMIT_BYTES} are read back; state less"
        )
    return text


def manifest_digest(manifest: Mapping[str, Any]) -> str:
    """Returns the sha256 over every field but `digest`, as canonical JSON."""
    fields = {key: value for key, value in manifest.items() if key != "digest"}
    canonical = json.dumps(fields, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()


def read_manifest(directory: str | Path) -> dict[str, Any]:
    """Reads and verifies the manifest of the adapter in `directory`, but not its payload.

    Raises ArtifactError where there is none of this format, or it is not what was written.
    """
    directory = Path(directory)
    path = directory / MANIFEST
    if not path.exists():
        raise ArtifactError(f"{directory}: no {MANIFEST}, so no complete adapter is here")
    text = read_bounded(path, MANIFEST_LIMIT_BYTES)
    try:
        manifest = json.loads(text.decode("ascii"))
    except (ValueError, RecursionError) as error:
        raise ArtifactError(
            f"{path}: is not the JSON that was written; take another copy"
        ) from error
    if not isinstance(manifest, dict):
        raise ArtifactError(f"{path}: is not a JSON object; take another copy")
    if manifest.get("format") != FORMAT:
        raise ArtifactError(
            f"{directory}: format={manifest.get('format')!r}: this version reads {FORMAT}"
        )
    _check_digest(path, text, manifest)
    _check_fields(path, manifest)
    return manifest


def read_numbers(directory: str | Path) -> tuple[dict[str, Any], bytes]:
    """Reads and verifies the manifest and the bytes of v in its `payload_dtype`; ArtifactError."""
    directory = Path(directory)
    manifest = read_manifest(directory)
    path = directory / PAYLOAD
    file = read_bounded(path, manifest["payload_bytes"] + 1024)  # v's header takes about 80
    if hashlib.sha256(file).hexdigest() != manifest["payload_sha256"]:
        raise ArtifactError(
            f"{path}: payload_sha256 differs from the one in {MANIFEST}; take another copy"
        )
    try:
        return manifest, decode(file, manifest["payload_dtype"], manifest["payload_shape"])
    except ValueError as error:
        raise ArtifactError(f"{path}: {error}; refused") from None


def _render(manifest: Mapping[str, Any]) -> bytes:
    return (json.dumps(manifest, indent=1, allow_nan=False) + "\n").encode("ascii")


def _check_digest(path: Path, text: bytes, manifest: dict[str, Any]) -> None:
    try:
        is_verbatim = _render(manifest) == text
        digest = manifest_digest(manifest)
    except (ValueError, RecursionError) as error:  # NaN, or nested beyond reason
        raise ArtifactError(f"{path}: {error}; take another copy") from None
    if manifest.get("digest") != digest:
        raise ArtifactError(f"{path}: digest differs: a field was changed; take another copy")
    if not is_verbatim:
        raise ArtifactError(f"{path}: digest holds, but not every byte is as written; take another")


def _is_count(value: object) -> bool:
    return type(value) is int and value > 0


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_shape(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_is_count, value))


def _is_identity(value: object) -> bool:
    return (
        isinstance(value, dict)
        and {"base_digest", "projection_digest", "fingerprint"} <= value.keys()
        and _is_text(value["base_digest"])
        and _is_text(value["projection_digest"])
        and isinstance(value["fingerprint"], list)
        and all(type(x) is float for x in value["fingerprint"])
    )


_FIELDS: dict[str, Callable[[Any], bool]] = {
    "format": _is_count,
    "config": lambda value: isinstance(value, dict),
    "num_modules": _is_count,
    "num_parameters": _is_count,
    "payload_dtype": lambda value: _is_text(value) and value in ITEM_BYTES,
    "payload_shape": _is_shape,
    "payload_bytes": _is_count,
    "payload_sha256": _is_text,
    "base_dtype": _is_text,
    "identity": _is_identity,
    "provenance": lambda value: isinstance(value, dict),
    "versions": lambda value: isinstance(value, dict) and all(map(_is_text, value.values())),
    "created": _is_text,
    "digest": _is_text,
}


def _check_fields(path: Path, manifest: dict[str, Any]) -> None:
    """Checks every value: a digest proves that nothing changed, not that a friend wrote it."""
    if manifest.keys() != _FIELDS.keys():
        odd = sorted(manifest.keys() ^ _FIELDS.keys())[0]
        raise ArtifactError(f"{path}: {odd!a:.80}: a format {FORMAT} manifest has it or has it not")
    for key, is_valid in _FIELDS.items():
        if not is_valid(manifest[key]):
            raise ArtifactError(f"{path}: {key}={manifest[key]!a:.80}: not a value of this field")
    num_parameters = math.prod(manifest["payload_shape"])
    stated = (manifest["num_parameters"], manifest["payload_bytes"])
    if stated != (num_parameters, num_bytes(manifest["payload_dtype"], manifest["payload_shape"])):
        raise ArtifactError(f"{path}: payload_shape does not fit num_parameters and payload_bytes")
    if manifest["payload_bytes"] > PAYLOAD_LIMIT_BYTES:
        raise ArtifactError(
            f"{path}: payload_bytes={manifest['payload_bytes']}: at most {PAYLOAD_LIMIT_BYTES} "
            "are read"
        )
    try:
        Provenance.from_mapping(manifest["provenance"])
    except ValueError as error:
        raise ArtifactError(f"{path}: {error}") from None
