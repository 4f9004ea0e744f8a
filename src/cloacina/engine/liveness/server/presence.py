"""The presence of a process on a server: its session there, and what is done over it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from cloacina.clock import Clock, Randomness
from cloacina.engine.liveness.doorbell import Doorbell
from cloacina.engine.liveness.lease import Lease
from cloacina.engine.liveness.observer import Observer
from cloacina.engine.liveness.server.doorbell import ServerDoorbell
from cloacina.engine.liveness.server.lease import ServerLease
from cloacina.engine.liveness.server.observer import ServerObserver
from cloacina.engine.liveness.server.session import ServerSession
from cloacina.engine.storage.storage import Storage
from cloacina.settings import Settings


class ServerPresence:
    """`Presence` on PostgreSQL. A client has one too: it holds no lease and looks at nobody."""

    def __init__(
        self,
        storage: Storage,
        settings: Settings,
        clock: Clock,
        randomness: Randomness,
        rung: Callable[[], Awaitable[None]],
    ) -> None:
        assert storage.server is not None
        self._settings = settings
        self._clock = clock
        self._session = ServerSession(storage.server, clock, randomness)
        self._lease: ServerLease | None = None
        self.bell: Doorbell = ServerDoorbell(self._session, clock, settings.poll_interval, rung)
        self.observer: Observer | None = ServerObserver(
            self._session, lambda: self._lease, storage.reader, settings
        )

    async def open(self) -> None:
        try:
            await self._session.open(self._settings.start_patience)
        except BaseException:
            await self._session.close()
            raise

    def lease(self, runner: str, lost: Callable[[str], None]) -> Lease:
        self._lease = ServerLease(self._session, runner, self._settings, self._clock, lost)
        return self._lease

    def give_up(self) -> None:
        self._session.give_up()

    async def close(self) -> None:
        await self._session.close()
