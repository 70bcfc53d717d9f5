"""The registry of served adapters: those named at the start, and those of a watched directory.

Exactly the adapters that lie in the watched directory and are admitted are served. A name keeps its
adapter for the server's life: vLLM's prefix cache knows adapters by name, and would answer for a
new one from the cache of the old one.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Collection, Mapping
from pathlib import Path

from tinylora_rl.artifact import MANIFEST
from tinylora_rl.artifact.files import PAYLOAD, adapter_dir
from tinylora_rl.artifact.model_card import escaped
from tinylora_rl.serving.admission import AdapterLoader, ServedAdapter, check_name

Stamp = tuple[tuple[int, int, int] | None, ...]
"""Inode, modification time and size of an adapter's two files; None for one that is missing."""


class AdapterRegistry:
    """Serves adapters under names.

    Args:
        named: {name: adapter} served from the start to the end.
        reserved: names that mean something else.
        register: makes the engine answer under a name; ValueError where the engine refuses it.
        unregister: removes a name from those that clients can ask for.
        report: called with a line of text for each change.
    """

    def __init__(
        self,
        *,
        loader: AdapterLoader,
        named: Mapping[str, ServedAdapter],
        watched: Path | None,
        reserved: Collection[str],
        register: Callable[[str, ServedAdapter], Awaitable[None]],
        unregister: Callable[[str], None],
        report: Callable[[str], None],
    ) -> None:
        self.served = dict(named)  # those that answer now
        self.refused: dict[str, str] = {}  # {name: reason} in `watched`; both printable
        self._loader = loader
        self._watched = watched
        self._reserved = frozenset(reserved) | frozenset(named)
        self._register = register
        self._unregister = unregister
        self._report = report
        self._stamps: dict[str, Stamp] = {}
        self._digests: dict[str, str] = {}  # of every name that was ever served from there
        self._unreadable = ""

    async def update(self) -> None:
        """Serves the adapters that lie in the watched directory now, and no others of it."""
        if self._watched is None:
            return
        try:
            present = await asyncio.to_thread(scan, self._watched)
        except OSError as error:
            self._note_unreadable(f"watch={self._watched}: {error.strerror}; nothing is changed")
            return
        self._note_unreadable("")
        for name in [name for name in self._stamps if name not in present]:
            del self._stamps[name]
            self._drop(name)
            self.refused.pop(escaped(name), None)
        for name, stamp in present.items():
            if self._stamps.get(name) != stamp:
                self._stamps[name] = stamp
                await self._consider(name, self._watched)

    async def _consider(self, name: str, watched: Path) -> None:
        try:
            check_name(name, self._reserved)
            adapter = await asyncio.to_thread(self._loader.load, adapter_dir(watched / name))
            before = self._digests.get(name, adapter.digest)
            if before != adapter.digest:
                raise ValueError(
                    f"{name}: was another adapter since this server started ({before[:12]}, now "
                    f"{adapter.digest[:12]}); put it there under a name of its own"
                )
            if name not in self.served:
                await self._register(name, adapter)
                self.served[name], self._digests[name] = adapter, adapter.digest
                self._report(f"serving {line_of(name, adapter)}")
        except (ValueError, OSError) as error:
            self._drop(name)
            self._refuse(name, escaped(str(error).replace(f"{watched}/", "")))
            if isinstance(error, OSError):
                self._stamps[name] = ()  # this machine's fault: it is tried again
        else:
            self.refused.pop(escaped(name), None)

    def _refuse(self, name: str, reason: str) -> None:
        if self.refused.get(escaped(name)) != reason:
            self._report(f"refused {reason}")
        self.refused[escaped(name)] = reason

    def _drop(self, name: str) -> None:
        if name in self.served and name not in self._reserved:
            self._unregister(name)
            del self.served[name]
            self._report(f"withdrawn {name}")

    def _note_unreadable(self, reason: str) -> None:
        if reason and reason != self._unreadable:
            self._report(reason)
        self._unreadable = reason


def scan(directory: Path) -> dict[str, Stamp]:
    """Returns {name: stamp} of every entry with a manifest, in the order of the names.

    An adapter without its manifest is still being written, and so is an entry whose name begins
    with a dot (`atomic.replacing_directory`). OSError if the directory cannot be read.
    """
    with os.scandir(directory) as entries:
        names = sorted(entry.name for entry in entries if not entry.name.startswith("."))
    stamps = {name: _stamp(directory / name) for name in names}
    return {name: stamp for name, stamp in stamps.items() if stamp[0] is not None}


def line_of(name: str, adapter: ServedAdapter) -> str:
    """Formats an adapter for a person: name, count of numbers, digest."""
    return f"{name}   {adapter.num_parameters} numbers, digest {adapter.digest[:12]}"


def _stamp(folder: Path) -> Stamp:
    directory = adapter_dir(folder)
    return tuple(_file_stamp(directory / name) for name in (MANIFEST, PAYLOAD))


def _file_stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:  # missing, or not a folder above it
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size
