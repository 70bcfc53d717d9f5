"""Admission of adapters: an adapter is served if every digest holds on this base.

An admitted adapter is written anew from its verified content, into a private store: later changes
of the directory that it came from cannot reach the engine.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

from tinylora_rl import artifact
from tinylora_rl.adapter import CheckpointWeights, TinyLoraConfig
from tinylora_rl.artifact import StoredAdapter
from tinylora_rl.artifact.files import NAME, NAME_RULE
from tinylora_rl.vllm_plugin.lora_limits import slot_rank


@dataclasses.dataclass(frozen=True, kw_only=True)
class ServedAdapter:
    """An adapter that fits the base."""

    digest: str
    num_parameters: int
    directory: Path  # its copy in the store


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    """The engine's slots: for a rank of at most `max_rank`, and for these types of linears."""

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


def limits_of(adapters: Collection[StoredAdapter], default: TinyLoraConfig) -> Limits:
    """Returns limits for these adapters, or for the `default` configuration."""
    for adapter in adapters:
        try:
            slot_rank(adapter.config.r)
        except ValueError as error:
            raise ValueError(f"{adapter.directory}: {error}") from None
    configs = [adapter.config for adapter in adapters] or [default]
    return Limits(
        max_rank=slot_rank(max(config.r for config in configs)),
        target_modules=frozenset(name for config in configs for name in config.target_modules),
    )


class AdapterLoader:
    """Admits adapters of one base: copies them to a private store; see `StoredAdapter.update`."""

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

    def load(self, directory: Path) -> ServedAdapter:
        """Opens, verifies and admits the adapter in `directory`, or the newest of a run there."""
        return self.admit(artifact.open(directory))

    def admit(self, adapter: StoredAdapter) -> ServedAdapter:
        """Verifies a read adapter on this base and copies it into the store.

        Raises:
            ValueError: it is of another base, or beyond the limits; the message names its
                directory.
            OSError: the store cannot be written.
        """
        try:
            self._limits.check(adapter.config)
        except ValueError as error:
            raise ValueError(f"{adapter.directory}: {error}") from None
        copy = self._store / adapter.digest
        if not copy.exists():
            adapter.update(self._weights, cache_dir=self._cache_dir, progress=self._progress)
            adapter.copy_to(copy)
        return ServedAdapter(
            digest=adapter.digest, num_parameters=adapter.num_parameters, directory=copy
        )


def open_named(entries: Iterable[str], reserved: Collection[str]) -> dict[str, StoredAdapter]:
    """Opens the adapters of entries DIR or NAME=DIR; returns {name: adapter}.

    Raises:
        ValueError: there is no such folder, its adapter is incomplete or damaged, or a name is
            invalid, taken or reserved (which means something else).
    """
    named: dict[str, StoredAdapter] = {}
    for entry in entries:
        name, path = _split(entry)
        folder = Path(path).expanduser().resolve()
        if not folder.is_dir():
            raise ValueError(
                f"adapters={entry}: no such folder; give directories, or NAME=DIR (download one "
                "from the Hub first: hf download OWNER/NAME --local-dir DIR)"
            )
        adapter = artifact.open(folder)
        name = name or adapter.name
        check_name(name, reserved)
        if name in named:
            raise ValueError(
                f"adapters={entry}: {named[name].directory} is called {name}, too; name them: "
                "NAME=DIR"
            )
        named[name] = adapter
    return named


def check_name(name: str, reserved: Collection[str]) -> None:
    """Raises ValueError unless clients can ask for `name` and mean this adapter alone."""
    if not NAME.fullmatch(name):
        raise ValueError(f"{name!a:.120}: is no name for an adapter; use {NAME_RULE}")
    if name in reserved:
        raise ValueError(f"{name}: is the name of something else served here; choose another")


def _split(entry: str) -> tuple[str | None, str]:
    name, equals, path = entry.partition("=")
    if not equals or Path(entry).expanduser().is_dir():
        return None, entry
    return name, path
