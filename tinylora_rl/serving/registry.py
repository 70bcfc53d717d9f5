"""Who is served: adapters given at the start, and those of a watched directory, as it changes.

What is served of the watched directory is exactly what lies there and is admitted. A name once
served keeps its adapter for the server's life: vLLM's prefix cache knows adapters by name, and
would answer for a new one from what an old one of that name left behind.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from pathlib import Path
from typing import Protocol

from tinylora_rl.serving.admission import Admitted
from tinylora_rl.serving.naming import adapter_dir, check_name
from tinylora_rl.serving.watch import Stamp, look


class Door(Protocol):
    """`Intake`, as far as it is used here."""

    def admit(self, directory: Path) -> Admitted: ...


class Roster:
    """
    Args:
        given: {name: adapter} served from the start to the end.
        watched: a directory, or None.
        reserved: names that mean something else.
        announce: makes an adapter answer under a name; ValueError where the engine refuses it.
        withdraw: a name is not known any more.
        say: called with a line for a person, for all that changes.

    Attributes:
        served: {name: adapter} of those that answer now.
        refused: {name: why} of entries in the watched directory that do not; both printable.
    """

    def __init__(
        self,
        *,
        door: Door,
        given: Mapping[str, Admitted],
        watched: Path | None,
        reserved: Collection[str],
        announce: Callable[[str, Admitted], Awaitable[None]],
        withdraw: Callable[[str], None],
        say: Callable[[str], None],
    ) -> None:
        self.served = dict(given)
        self.refused: dict[str, str] = {}
        self._door = door
        self._watched = watched
        self._reserved = frozenset(reserved) | frozenset(given)
        self._announce = announce
        self._withdraw = withdraw
        self._say = say
        self._stamps: dict[str, Stamp] = {}
        self._digests: dict[str, str] = {}  # of every name that was ever served from there
        self._unreadable = ""

    async def update(self) -> None:
        """The directory as it is now is what is served."""
        if self._watched is None:
            return
        try:
            present = await asyncio.to_thread(look, self._watched)
        except OSError as error:
            self._note_unreadable(f"watch={self._watched}: {error.strerror}; nothing is changed")
            return
        self._note_unreadable("")
        for name in [name for name in self._stamps if name not in present]:
            del self._stamps[name]
            self._drop(name)
            self.refused.pop(_plain(name), None)
        for name, stamp in present.items():
            if self._stamps.get(name) != stamp:
                self._stamps[name] = stamp
                await self._consider(name, self._watched)

    async def _consider(self, name: str, watched: Path) -> None:
        try:
            check_name(name, self._reserved)
            adapter = await asyncio.to_thread(self._door.admit, adapter_dir(watched / name))
            before = self._digests.get(name, adapter.digest)
            if before != adapter.digest:
                raise ValueError(
                    f"{name}: was another adapter since this server started ({before[:12]}, now "
                    f"{adapter.digest[:12]}); put it there under a name of its own"
                )
            if name not in self.served:
                await self._announce(name, adapter)
                self.served[name], self._digests[name] = adapter, adapter.digest
                self._say(f"serving {line_of(name, adapter)}")
        except (ValueError, OSError) as error:
            self._drop(name)
            self._refuse(name, _plain(str(error).replace(f"{watched}/", "")))
            if isinstance(error, OSError):
                self._stamps[name] = ()  # this machine's fault: it is tried again
        else:
            self.refused.pop(_plain(name), None)

    def _refuse(self, name: str, reason: str) -> None:
        if self.refused.get(_plain(name)) != reason:
            self._say(f"refused {reason}")
        self.refused[_plain(name)] = reason

    def _drop(self, name: str) -> None:
        if name in self.served and name not in self._reserved:
            self._withdraw(name)
            del self.served[name]
            self._say(f"withdrawn {name}")

    def _note_unreadable(self, reason: str) -> None:
        if reason and reason != self._unreadable:
            self._say(reason)
        self._unreadable = reason


def line_of(name: str, adapter: Admitted) -> str:
    """For a person: name, count of numbers, digest."""
    return f"{name}   {adapter.num_parameters} numbers, digest {adapter.digest[:12]}"


def _plain(text: str) -> str:
    """`text` without what moves a cursor or is no Unicode: it may be a stranger's."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )
