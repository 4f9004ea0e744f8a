"""The presence of a process: how others on the same database see and hear it, and how it sees and hears them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from cloacina.engine.liveness.doorbell import Doorbell
from cloacina.engine.liveness.files.doorbell import FileDoorbell
from cloacina.engine.liveness.files.lease import FileLease
from cloacina.engine.liveness.files.observer import FileObserver
from cloacina.engine.liveness.lease import Lease, MemoryLease
from cloacina.engine.liveness.observer import Observer
from cloacina.engine.storage.storage import Storage
from cloacina.settings import Settings

Lost = Callable[[str], None]
"""Called on the loop, with the reason, when a lease was given up or taken away."""


class Presence(Protocol):
    """What an engine or a client has of it, on one database."""

    bell: Doorbell
    observer: Observer | None
    """None where no other process can be."""

    async def open(self) -> None:
        """Begin; the storage is open. Raises `StoreError`."""
        ...

    def lease(self, runner: str, lost: Lost) -> Lease:
        """The lease of a new runner in this process, not held yet."""
        ...

    def give_up(self) -> None:
        """Let nobody wait any more for a database that does not take part."""
        ...

    async def close(self) -> None:
        """End; what others are to be told is on its way then."""
        ...


def presence_of(
    storage: Storage,
    settings: Settings,
    rung: Callable[[], Awaitable[None]],
) -> Presence:
    """The presence on the database of ``storage``; ``rung`` is called when another process wrote."""
    if storage.server is not None:
        from cloacina.engine.liveness.server.presence import ServerPresence

        return ServerPresence(storage, settings, storage.machine.clock, storage.machine.randomness, rung)
    return _Alone() if storage.folder is None else _ByFiles(storage, settings, rung)


class _Alone:
    """In memory."""

    observer: Observer | None = None

    def __init__(self) -> None:
        self.bell: Doorbell = Doorbell()

    async def open(self) -> None:
        return None

    def lease(self, runner: str, lost: Lost) -> Lease:
        return MemoryLease()

    def give_up(self) -> None:
        return None

    async def close(self) -> None:
        return None


class _ByFiles(_Alone):
    """On an SQLite file."""

    def __init__(self, storage: Storage, settings: Settings, rung: Callable[[], Awaitable[None]]) -> None:
        assert storage.folder is not None
        self._folder = storage.folder
        self._settings = settings
        self._machine = storage.machine
        self.bell = FileDoorbell(storage, rung)
        self.observer: Observer | None = FileObserver(
            storage.folder, self._machine.clock, storage.reader, settings.poll_interval
        )

    def lease(self, runner: str, lost: Lost) -> Lease:
        return FileLease(self._folder, runner, self._settings, self._machine, lost)
