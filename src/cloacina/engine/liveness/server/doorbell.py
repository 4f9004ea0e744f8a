"""The doorbell on a server: it rings when another process has told so, and now and then by itself.

What it is told is a hint. Nothing depends on one that is lost but the moment, and one that comes from a stranger, or a
thousand times a second, costs a look now and then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from cloacina.clock import Clock, Timer
from cloacina.engine.liveness.doorbell import Doorbell
from cloacina.engine.liveness.server.session import ServerSession
from cloacina.observe.logs import get_logger

log = get_logger("doorbell")

SELDOM = 60
"""How many poll intervals go by until it rings by itself, while the session listens."""

PAUSE = 0.02
"""Seconds between two looks, at least; and a look may not take more than a part of the time, unless it is slow."""

SHARE = 4


class ServerDoorbell(Doorbell):
    """See the module's text. ``rung`` is called, and those who listen are woken, for each ring."""

    def __init__(
        self,
        session: ServerSession,
        clock: Clock,
        poll_interval: float,
        rung: Callable[[], Awaitable[None]],
    ) -> None:
        super().__init__()
        self._session = session
        self._clock = clock
        self._poll_interval = poll_interval
        self._rung = rung
        self._wanted = False
        self._stopped = asyncio.Event()
        self._timer: Timer | None = None
        self._answering: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._session.heard = self._hear
        self._session.hear_again()
        self._set_timer()

    def ring(self) -> None:
        self._session.ring()

    async def stop(self) -> None:
        self._stopped.set()
        self._session.heard = self._session.hear_again
        if self._timer is not None:
            self._timer.cancel()
        if self._answering is not None:
            await asyncio.wait({self._answering})
        self.wake()

    def _hear(self) -> None:
        self._wanted = True
        if self._answering is None and not self._stopped.is_set():
            self._answering = asyncio.get_running_loop().create_task(self._answer())

    async def _answer(self) -> None:
        while self._wanted and not self._stopped.is_set():
            self._wanted = False
            self._session.hear_again()
            begin = self._clock.monotonic()
            pause = PAUSE
            try:
                await self._rung()
                self.wake()
            except Exception:
                if not self._stopped.is_set():
                    log.exception("looking after what another process wrote failed; it is tried again")
                self._wanted, pause = True, self._poll_interval
            took = self._clock.monotonic() - begin  # in an outage as long as that lasts
            await self._rest(max(pause, min(SHARE * took, self._poll_interval)))
        self._answering = None
        self._set_timer()

    async def _rest(self, pause: float) -> None:
        try:
            async with asyncio.timeout(pause):
                await self._stopped.wait()
        except TimeoutError:
            pass

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if not self._stopped.is_set():
            every = SELDOM if self._session.listening else 1
            self._timer = self._clock.call_later(every * self._poll_interval, self._hear)
