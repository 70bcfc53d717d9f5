"""An adapter as a directory: `adapter.safetensors` holds v and nothing else (13 numbers are 52
bytes of payload), `manifest.json` all that gives it a meaning. The directory is complete when its
manifest is there.

Legend: G groups, U numbers per group.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tinylora_rl import __version__
from tinylora_rl.adapter import (
    Adapter,
    CheckpointWeights,
    Identity,
    TinyLoraConfig,
    Update,
    Weights,
    as_weights,
    in_dtype,
    inject,
    load_or_build,
    targets_of,
)
from tinylora_rl.artifact.manifest import (
    FORMAT,
    MANIFEST,
    read_manifest,
    read_numbers,
    render_manifest,
)
from tinylora_rl.artifact.payload import ITEM_BYTES, PAYLOAD, encode
from tinylora_rl.artifact.provenance import Provenance
from tinylora_rl.artifact.summary import printable
from tinylora_rl.atomic import replacing_directory
from tinylora_rl.base_model import commit_of

__all__ = [
    "MANIFEST",
    "adapted",
    "check_identity",
    "load",
    "load_update",
    "read_manifest",
    "read_vector",
    "save",
    "trained_dtype",
]

FINGERPRINT_TOLERANCE = (
    1e-3  # of the fingerprint's norm; threads and devices differ by about 1e-6, a flipped sign by 1
)
P_LIMIT = 1 << 28  # numbers in one module's P (u r r): 1 GiB; a stranger's r is not worth more


def save(
    adapter: Adapter,
    directory: str | Path,
    provenance: Provenance | Mapping[str, Any] | None = None,
    *,
    payload_dtype: str = "float32",
) -> Path:
    """`directory` holds `adapter`, atomically.

    Args:
        provenance: where the adapter comes from; a mapping must have `Provenance`'s fields.
        payload_dtype: float32, or bfloat16 or float16 for half the bytes: then what is loaded, and
            so what is evaluated, is v rounded to it.

    Raises:
        ValueError: v holds a value that is not finite, or that `payload_dtype` cannot hold; or a
            field of the provenance is unknown or of the wrong type. Nothing was written then.
    """
    directory = Path(directory)
    if not isinstance(provenance, Provenance):
        provenance = Provenance.from_mapping(provenance or {})
    v_GU = _rounded(adapter.v.detach(), payload_dtype, directory)
    numbers = v_GU.view(torch.uint8).numpy().tobytes()
    file = encode(numbers, payload_dtype, v_GU.shape)
    manifest = render_manifest(
        {
            "format": FORMAT,
            "config": adapter.config.to_dict(),
            "num_modules": len(adapter.targets),
            "num_parameters": v_GU.numel(),
            "payload_dtype": payload_dtype,
            "payload_shape": list(v_GU.shape),
            "payload_bytes": len(numbers),
            "payload_sha256": hashlib.sha256(file).hexdigest(),
            "base_dtype": adapter.base_dtype,
            "identity": dataclasses.asdict(adapter.identity),
            "provenance": provenance.to_dict(),
            "versions": {"tinylora_rl": __version__, "torch": torch.__version__},
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
        }
    )
    with replacing_directory(directory) as fresh:
        (fresh / PAYLOAD).write_bytes(file)
        (fresh / MANIFEST).write_bytes(manifest)
    return directory


def read_vector(directory: str | Path) -> torch.Tensor:
    """v (G, U), float32, of the adapter in `directory`, verified.

    A payload of fewer bits gives exactly its rounded values.

    Raises:
        ValueError: see `read_numbers`; or v holds a value that is not finite.
    """
    manifest, numbers = read_numbers(directory)
    v = torch.frombuffer(bytearray(numbers), dtype=getattr(torch, manifest["payload_dtype"]))
    v_GU = v.to(torch.float32).reshape(manifest["payload_shape"])
    if not torch.isfinite(v_GU).all():
        raise ValueError(f"{directory}: v holds a value that is not finite; refused")
    return v_GU


def load_update(
    directory: str | Path,
    source: nn.Module | Weights,
    *,
    cache_dir: str | Path | None = None,
    device: torch.device | str | None = None,
    revision: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Update:
    """The update that the adapter in `directory` makes to the base weights `source`, verified.

    Args:
        source: a model, which is only read, or the checkpoint of one.
        cache_dir: of banks; see `load_or_build`.
        device: of the factors and v; None is the weights' own.
        revision: the base model's commit; None takes what transformers noted when it loaded a model
            from the Hub. Compared where both sides know it.
        progress: called with (modules done, modules in all) while the base is decomposed.

    Raises:
        ValueError: the adapter is incomplete or damaged, or `source` is not the base it was trained
            on; the message names the digest that differs.
    """
    manifest = read_manifest(directory)
    v_GU = read_vector(directory)
    config = _checked_config(manifest, directory)
    _check_revision(manifest, source, revision, directory)
    weights = as_weights(source)
    targets = targets_of(weights.names(), config)
    names = [target.weight_name for target in targets]
    trained_on = in_dtype(weights, trained_dtype(manifest, directory), names)
    bank = load_or_build(
        trained_on, targets, config, cache_dir=cache_dir, device=device, progress=progress
    )
    update = Update(trained_on, targets, config, bank)
    if reason := _explain_dtype(update, weights.dtype(names[0]), manifest["identity"]):
        raise ValueError(f"{directory}: base_digest differs{reason}")
    check_identity(update.identity, manifest["identity"], directory)
    if v_GU.shape != update.v.shape:
        raise ValueError(
            f"{directory}: v is {tuple(v_GU.shape)}, the model needs {tuple(update.v.shape)}"
        )
    update.v.copy_(v_GU)
    return update


def load(
    directory: str | Path,
    model: nn.Module,
    *,
    cache_dir: str | Path | None = None,
    revision: str | None = None,
) -> Adapter:
    """`model` carries the adapter in `directory`; v is trainable.

    Args:
        cache_dir, revision: see `load_update`.

    Raises:
        ValueError: see `load_update`. `model` is then unchanged.
    """
    update = load_update(directory, model, cache_dir=cache_dir, revision=revision)
    adapter = inject(model, update.config, bank=update.bank, base=update.base)
    adapter.identity = update.identity  # verified; the model may change from here on
    adapter.v.data.copy_(update.v)
    return adapter


def trained_dtype(manifest: Mapping[str, Any], where: str | Path) -> torch.dtype:
    """The dtype of the base weights that the adapter was trained on.

    Raises:
        ValueError: the manifest names none that is known.
    """
    name = manifest["base_dtype"]
    if name not in ITEM_BYTES:
        raise ValueError(
            f"{where}: base_dtype={printable(name)}: choose from {', '.join(ITEM_BYTES)}"
        )
    return getattr(torch, name)


@contextmanager
def adapted(directory: str | Path, model: nn.Module) -> Iterator[Adapter]:
    """Inside, `model` carries the adapter in `directory`; afterwards it is what it was.

    Raises:
        ValueError: see `load`.
    """
    required = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    adapter = load(directory, model)
    try:
        yield adapter
    finally:
        adapter.remove()
        for parameter, was_required in required:
            parameter.requires_grad_(was_required)


def check_identity(here: Identity, stored: Mapping[str, Any], where: str | Path) -> None:
    """`here` is what the adapter stored in `where` was trained on.

    Raises:
        ValueError: it is not; the message names the first part that differs.
    """
    if here.base_digest != stored["base_digest"]:
        raise ValueError(
            f"{where}: base_digest differs; load the adapter onto the base model it was trained on"
        )
    if here.projection_digest != stored["projection_digest"]:
        raise ValueError(
            f"{where}: projection_digest differs; P was drawn from another seed or torch version"
        )
    if len(here.fingerprint) == len(stored["fingerprint"]):
        difference = math.dist(here.fingerprint, stored["fingerprint"])
        if difference <= FINGERPRINT_TOLERANCE * math.hypot(*stored["fingerprint"]):
            return
    raise ValueError(
        f"{where}: fingerprint differs; the singular vectors here are not those of the training run"
    )


def _rounded(v_GU: torch.Tensor, payload_dtype: str, directory: Path) -> torch.Tensor:
    if payload_dtype not in ITEM_BYTES:
        raise ValueError(f"payload_dtype={payload_dtype!r}: choose from {', '.join(ITEM_BYTES)}")
    if not torch.isfinite(v_GU).all():
        raise ValueError(f"{directory}: v holds a value that is not finite; nothing was written")
    rounded_GU = v_GU.to("cpu", getattr(torch, payload_dtype)).contiguous()
    if not torch.isfinite(rounded_GU).all():
        raise ValueError(
            f"payload_dtype={payload_dtype}: cannot hold |v| up to {float(v_GU.abs().max()):.6g}; "
            "use float32"
        )
    return rounded_GU


def _checked_config(manifest: Mapping[str, Any], where: str | Path) -> TinyLoraConfig:
    try:
        config = TinyLoraConfig.from_dict(manifest["config"])
        num_groups = config.num_groups(num_modules=manifest["num_modules"])
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: config: {error}") from error
    if [num_groups, config.u] != manifest["payload_shape"]:
        raise ValueError(
            f"{where}: config needs v of {[num_groups, config.u]}, the payload has "
            f"{manifest['payload_shape']}"
        )
    if config.u * config.r**2 > P_LIMIT:
        raise ValueError(
            f"{where}: r={config.r}, u={config.u}: P of one module would have "
            f"{config.u * config.r**2} numbers, at most {P_LIMIT} are drawn"
        )
    return config


def _check_revision(
    manifest: Mapping[str, Any],
    source: nn.Module | Weights,
    revision: str | None,
    where: str | Path,
) -> None:
    if revision is None and isinstance(source, CheckpointWeights):
        revision = commit_of(source.directory)
    # transformers' own note of the commit, under this private name since version 4.22
    here = revision or getattr(getattr(source, "config", None), "_commit_hash", None)
    stored = manifest["provenance"].get("base_revision")
    if here and stored and here != stored:
        raise ValueError(
            f"{where}: base_revision={stored}, the model here is {here}; load the base with "
            f"revision={stored}"
        )


def _explain_dtype(update: Update, here: torch.dtype, identity: Mapping[str, Any]) -> str:
    """The likeliest reason for another base digest, where it is the reason."""
    if update.identity.base_digest == identity["base_digest"]:
        return ""
    stored = update.base_dtype
    if getattr(torch, stored) == here:
        return ""
    return (
        f": base_dtype={stored}, the model here is {str(here).removeprefix('torch.')}; load the "
        f"base with dtype=torch.{stored}"
    )
