"""The door: an adapter is admitted when every digest holds on this base, or refused with a reason.

What was admitted lies in a private store from then on, written anew from the verified bytes: what
happens to the directory it came from cannot reach the engine any more.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from tinylora_rl import artifact
from tinylora_rl.adapter import CheckpointWeights, TinyLoraConfig
from tinylora_rl.artifact.manifest import read_numbers, render_manifest
from tinylora_rl.artifact.payload import PAYLOAD, encode
from tinylora_rl.atomic import new_directory


@dataclasses.dataclass(frozen=True, kw_only=True)
class Admitted:
    """An adapter that fits the base.

    Attributes:
        digest: of all of it; its identity.
        num_parameters: numbers in v.
        directory: its copy in the store.
    """

    digest: str
    num_parameters: int
    directory: Path


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    """What the engine has slots for: a rank of at most `max_rank`, and these types of linears."""

    max_rank: int
    target_modules: frozenset[str]

    def check(self, config: TinyLoraConfig) -> None:
        """
        Raises:
            ValueError: an adapter of this configuration does not fit.
        """
        if config.r > self.max_rank:
            raise ValueError(
                f"r={config.r}: this server has slots up to rank {self.max_rank}; restart it with "
                "this adapter named, or with -- --max-lora-rank"
            )
        missing = [name for name in config.target_modules if name not in self.target_modules]
        if missing:
            raise ValueError(
                f"target_modules={missing[0]}: this server has slots for "
                f"{', '.join(sorted(self.target_modules))}; restart it with this adapter named, or "
                "with -- --lora-target-modules"
            )


class Intake:
    """Admits adapters of one base.

    Args:
        base: folder of the base model.
        store: a private folder.
        cache_dir: of banks; see `load_or_build`.
        progress: called with (modules done, in all) while the base is decomposed.
    """

    def __init__(
        self,
        base: Path,
        store: Path,
        limits: Limits,
        *,
        cache_dir: Path | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self._weights = CheckpointWeights(base)
        self._store = store
        self._limits = limits
        self._cache_dir = cache_dir
        self._progress = progress

    def admit(self, directory: Path) -> Admitted:
        """The adapter in `directory`, verified on this base and copied.

        Raises:
            ValueError: it is incomplete, damaged, of another base, or beyond the limits; the
                message says which, and names `directory`.
            OSError: the store cannot be written.
        """
        manifest, numbers = read_numbers(directory)
        try:
            self._limits.check(configuration(manifest))
        except ValueError as error:
            raise ValueError(f"{directory}: {error}") from None
        copy = self._store / str(manifest["digest"])
        if not copy.exists():
            _write(copy, manifest, numbers)
            try:
                artifact.load_update(
                    copy, self._weights, cache_dir=self._cache_dir, progress=self._progress
                )
            except ValueError as error:
                shutil.rmtree(copy)
                raise ValueError(str(error).replace(str(copy), str(directory))) from None
        return Admitted(
            digest=manifest["digest"], num_parameters=manifest["num_parameters"], directory=copy
        )


def configuration(manifest: Mapping[str, Any]) -> TinyLoraConfig:
    """What kind of adapter a manifest describes.

    Raises:
        ValueError: no kind there is.
    """
    try:
        return TinyLoraConfig.from_dict(manifest["config"])
    except (TypeError, ValueError) as error:
        raise ValueError(f"config: {error}") from None


def limits_of(
    directories: Collection[Path], ranks: Collection[int], usual: TinyLoraConfig
) -> Limits:
    """Limits that hold these adapters, and those of the `usual` configuration where there are none.

    Args:
        ranks: what vLLM takes as `max_lora_rank`.

    Raises:
        ValueError: an adapter cannot be read, or its rank is above all of `ranks`.
    """
    configs = []
    for directory in directories:
        manifest, _ = read_numbers(directory)
        try:
            config = configuration(manifest)
            if config.r > max(ranks):
                raise ValueError(f"r={config.r}: vLLM serves LoRA up to rank {max(ranks)}")
        except ValueError as error:
            raise ValueError(f"{directory}: {error}") from None
        configs.append(config)
    configs = configs or [usual]
    needed = max(config.r for config in configs)
    return Limits(
        max_rank=min(rank for rank in ranks if rank >= needed),
        target_modules=frozenset(name for config in configs for name in config.target_modules),
    )


def _write(copy: Path, manifest: Mapping[str, Any], numbers: bytes) -> None:
    fields = {key: value for key, value in manifest.items() if key != "digest"}
    with new_directory(copy) as fresh:
        (fresh / PAYLOAD).write_bytes(
            encode(numbers, manifest["payload_dtype"], manifest["payload_shape"])
        )
        (fresh / artifact.MANIFEST).write_bytes(render_manifest(fields))
