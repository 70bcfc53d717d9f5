"""An adapter on disk, verified once: `open` reads and checks its two files, the rest uses them.

Legend: G groups, U numbers per group.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tinylora_rl.adapter import (
    Adapter,
    CheckpointWeights,
    Identity,
    Survival,
    TinyLoraConfig,
    Update,
    Weights,
    as_weights,
    in_dtype,
    inject,
    load_or_build,
    targets_of,
)
from tinylora_rl.artifact.files import (
    ITEM_BYTES,
    PAYLOAD,
    ArtifactError,
    adapter_dir,
    default_name,
    encode,
)
from tinylora_rl.artifact.manifest import MANIFEST, read_numbers, render_manifest
from tinylora_rl.artifact.model_card import printable
from tinylora_rl.artifact.provenance import Provenance
from tinylora_rl.atomic import replacing_directory
from tinylora_rl.base_model import commit_of

FINGERPRINT_TOLERANCE = (
    1e-3  # of the fingerprint's norm; threads and devices differ by about 1e-6, a flipped sign by 1
)
P_LIMIT = 1 << 28  # numbers in one module's P (u r r): 1 GiB; a stranger's r is not worth more


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class StoredAdapter:
    """An adapter that `open` verified. Its directory is not read again; it can be pickled.

    Attributes:
        v: (G, U), float32, on the CPU; only read it. A payload of fewer bits gives exactly its
            rounded values.
    """

    directory: Path  # absolute
    manifest: Mapping[str, Any] = dataclasses.field(repr=False)
    config: TinyLoraConfig
    v: torch.Tensor = dataclasses.field(repr=False)

    @property
    def name(self) -> str:
        """The name of the policy where no other was given."""
        return default_name(self.directory)

    @property
    def digest(self) -> str:
        """sha256 over every bit of it."""
        return str(self.manifest["digest"])

    @property
    def num_parameters(self) -> int:
        return self.v.numel()

    @property
    def provenance(self) -> Provenance:
        return Provenance.from_mapping(self.manifest["provenance"])

    @property
    def identity(self) -> Identity:
        """Digests of the base weights and of P, without which v means nothing."""
        stated = self.manifest["identity"]
        return Identity(
            base_digest=stated["base_digest"],
            projection_digest=stated["projection_digest"],
            fingerprint=tuple(stated["fingerprint"]),
        )

    @property
    def base_dtype(self) -> torch.dtype:
        """The dtype of the base weights that it was trained on."""
        dtype: torch.dtype = getattr(torch, self.manifest["base_dtype"])
        return dtype

    def update(
        self,
        source: nn.Module | Weights,
        *,
        cache_dir: str | Path | None = None,
        device: torch.device | str | None = None,
        revision: str | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Update:
        """Computes the update that this adapter makes to the base weights `source`.

        Args:
            source: a model, which is only read, or the checkpoint of one.
            cache_dir: of banks; see `load_or_build`.
            device: of the factors and v; None is the weights' own.
            revision: the base's commit; None: as transformers noted. Compared where both know it.
            progress: called with (modules done, modules in all) while the base is decomposed.

        Raises:
            ArtifactError: `source` is not the base it was trained on; the message names the digest
                that differs.
        """
        self._check_revision(source, revision)
        weights = as_weights(source)
        targets = targets_of(weights.names(), self.config)
        names = [target.weight_name for target in targets]
        trained_on = in_dtype(weights, self.base_dtype, names)
        bank = load_or_build(
            trained_on, targets, self.config, cache_dir=cache_dir, device=device, progress=progress
        )
        update = Update(trained_on, targets, self.config, bank)
        if reason := self._explain_dtype(update, weights.dtype(names[0])):
            raise ArtifactError(f"{self.directory}: base_digest differs{reason}")
        self.check_identity(update.identity)
        if self.v.shape != update.v.shape:
            raise ArtifactError(
                f"{self.directory}: v is {tuple(self.v.shape)}, the model needs "
                f"{tuple(update.v.shape)}"
            )
        update.v.copy_(self.v)
        return update

    def inject(
        self, model: nn.Module, *, cache_dir: str | Path | None = None, revision: str | None = None
    ) -> Adapter:
        """Wraps `model` with this adapter, v trainable; see `update`. Unchanged on an error."""
        update = self.update(model, cache_dir=cache_dir, revision=revision)
        adapter = inject(model, update.config, bank=update.bank, base=update.base)
        adapter.identity = update.identity  # verified; the model may change from here on
        adapter.v.data.copy_(update.v)
        return adapter

    @contextmanager
    def adapted(self, model: nn.Module) -> Iterator[Adapter]:
        """Wraps `model` with this adapter inside the block; afterwards it is what it was."""
        required = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
        adapter = self.inject(model)
        try:
            yield adapter
        finally:
            adapter.remove()
            for parameter, was_required in required:
                parameter.requires_grad_(was_required)

    def export_peft_lora(self, out: str | Path, **options: Any) -> Path:
        """Writes a PEFT LoRA; see `peft_lora.export_peft_lora`."""
        from tinylora_rl.artifact.peft_lora import export_peft_lora

        return export_peft_lora(self, out, **options)

    def export_merged(self, out: str | Path, **options: Any) -> Survival:
        """Writes the merged model; see `merged.export_merged`."""
        from tinylora_rl.artifact.merged import export_merged

        return export_merged(self, out, **options)

    def export_peft_tinylora(self, out: str | Path, **options: Any) -> Path:
        """Writes a PEFT TinyLoRA; see `peft_tinylora.export_peft_tinylora`."""
        from tinylora_rl.artifact.peft_tinylora import export_peft_tinylora

        return export_peft_tinylora(self, out, **options)

    def copy_to(self, directory: str | Path, **provenance: Any) -> Path:
        """Writes the verified bytes, with fields of the provenance replaced, atomically."""
        files = self.files(**provenance)
        with replacing_directory(Path(directory)) as fresh:
            for name, content in files.items():
                (fresh / name).write_bytes(content)
        return Path(directory)

    def files(self, **provenance: Any) -> dict[str, bytes]:
        """Returns {name: content} of the files that `copy_to` writes."""
        changed = Provenance.from_mapping({**self.manifest["provenance"], **provenance})
        fields = {key: value for key, value in self.manifest.items() if key != "digest"}
        return {
            PAYLOAD: encode(self.numbers, self.manifest["payload_dtype"], tuple(self.v.shape)),
            MANIFEST: render_manifest({**fields, "provenance": changed.to_dict()}),
        }

    @property
    def numbers(self) -> bytes:
        """The bytes of v in the payload's dtype."""
        rounded_GU = self.v.to(getattr(torch, self.manifest["payload_dtype"])).contiguous()
        return rounded_GU.view(torch.uint8).numpy().tobytes()

    def check_identity(self, here: Identity) -> None:
        """Raises ArtifactError where an update here differs in what it is computed from."""
        stored, where = self.identity, self.directory
        if here.base_digest != stored.base_digest:
            raise ArtifactError(
                f"{where}: base_digest differs; load the adapter onto the base model it was "
                "trained on"
            )
        if here.projection_digest != stored.projection_digest:
            raise ArtifactError(
                f"{where}: projection_digest differs; P was drawn from another seed or torch "
                "version"
            )
        if len(here.fingerprint) == len(stored.fingerprint):
            difference = math.dist(here.fingerprint, stored.fingerprint)
            if difference <= FINGERPRINT_TOLERANCE * math.hypot(*stored.fingerprint):
                return
        raise ArtifactError(
            f"{where}: fingerprint differs; the singular vectors here are not those of the "
            "training run"
        )

    def _check_revision(self, source: nn.Module | Weights, revision: str | None) -> None:
        if revision is None and isinstance(source, CheckpointWeights):
            revision = commit_of(source.directory)
        # transformers' own note of the commit, under this private name since version 4.22
        here = revision or getattr(getattr(source, "config", None), "_commit_hash", None)
        stored = self.provenance.base_revision
        if here and stored and here != stored:
            raise ArtifactError(
                f"{self.directory}: base_revision={stored}, the model here is {here}; load the "
                f"base with revision={stored}"
            )

    def _explain_dtype(self, update: Update, here: torch.dtype) -> str:
        """Returns the likeliest reason for another base digest, where it is the reason."""
        if update.identity.base_digest == self.identity.base_digest:
            return ""
        stored = update.base_dtype
        if getattr(torch, stored) == here:
            return ""
        return (
            f": base_dtype={stored}, the model here is {str(here).removeprefix('torch.')}; load "
            f"the base with dtype=torch.{stored}"
        )


def open(directory: str | Path) -> StoredAdapter:
    """Reads and verifies the adapter in `directory`, an adapter or a run directory, once.

    Raises:
        ArtifactError: it is incomplete or damaged, or states something impossible.
    """
    directory = adapter_dir(Path(directory).expanduser())
    manifest, numbers = read_numbers(directory)
    v = torch.frombuffer(bytearray(numbers), dtype=getattr(torch, manifest["payload_dtype"]))
    v_GU = v.to(torch.float32).reshape(manifest["payload_shape"])
    if not torch.isfinite(v_GU).all():
        raise ArtifactError(f"{directory}: v holds a value that is not finite; refused")
    if manifest["base_dtype"] not in ITEM_BYTES:
        raise ArtifactError(
            f"{directory}: base_dtype={printable(manifest['base_dtype'])}: choose from "
            f"{', '.join(ITEM_BYTES)}"
        )
    return StoredAdapter(
        directory=directory.resolve(),
        manifest=manifest,
        config=_checked_config(manifest, directory),
        v=v_GU,
    )


def opened(adapter: StoredAdapter | str | Path) -> StoredAdapter:
    """Returns `adapter` itself, or opens the directory of that name."""
    return adapter if isinstance(adapter, StoredAdapter) else open(adapter)


def read_vector(directory: str | Path) -> torch.Tensor:
    """Returns v (G, U), float32; see `open`."""
    return open(directory).v


def load_update(directory: str | Path, source: nn.Module | Weights, **options: Any) -> Update:
    """Opens the adapter and computes its update; see `StoredAdapter.update`."""
    return open(directory).update(source, **options)


def load(directory: str | Path, model: nn.Module, **options: Any) -> Adapter:
    """Opens the adapter and wraps `model` with it; see `StoredAdapter.inject`."""
    return open(directory).inject(model, **options)


@contextmanager
def adapted(directory: str | Path, model: nn.Module) -> Iterator[Adapter]:
    """Opens the adapter and wraps `model` with it inside the block."""
    with open(directory).adapted(model) as adapter:
        yield adapter


def _checked_config(manifest: Mapping[str, Any], where: Path) -> TinyLoraConfig:
    try:
        config = TinyLoraConfig.from_dict(manifest["config"])
        num_groups = config.num_groups(num_modules=manifest["num_modules"])
    except (TypeError, ValueError) as error:
        raise ArtifactError(f"{where}: config: {error}") from error
    if [num_groups, config.u] != manifest["payload_shape"]:
        raise ArtifactError(
            f"{where}: config needs v of {[num_groups, config.u]}, the payload has "
            f"{manifest['payload_shape']}"
        )
    if config.u * config.r**2 > P_LIMIT:
        raise ArtifactError(
            f"{where}: r={config.r}, u={config.u}: P of one module would have "
            f"{config.u * config.r**2} numbers, at most {P_LIMIT} are drawn"
        )
    return config
