"""The doorbell on a server: many rings are few looks, and it rings by itself now and then."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from cloacina.engine.liveness.server import doorbell
from cloacina.engine.liveness.server.doorbell import SELDOM, ServerDoorbell
from support.clock import HandClock, turn, until


class Silent:
    """A session that hears nothing but what the test says."""

    def __init__(self, listening: bool = True) -> None:
        self.listening = listening
        self.heard: Callable[[], None] = lambda: None
        self.rung = 0

    def hear_again(self) -> None: ...

    def ring(self) -> None:
        self.rung += 1


class Bell:
    def __init__(self, session: Silent, clock: Any = None) -> None:
        self.looks = 0
        self.fails = 0
        self.hold: asyncio.Event | None = None
        self.clock = clock or HandClock()
        self.bell = ServerDoorbell(cast(Any, session), self.clock, 1.0, self._rung)
        self.bell.start()

    async def _rung(self) -> None:
        self.looks += 1
        if self.hold is not None:
            await self.hold.wait()
        if self.fails:
            self.fails -= 1
            raise OSError("once")


@pytest.mark.parametrize(("listening", "seconds"), [(True, SELDOM), (False, 1)])
async def test_it_rings_by_itself_now_and_then(listening: bool, seconds: int) -> None:
    here = Bell(Silent(listening))
    for number in (1, 2, 3):
        assert here.clock.turns == [seconds]
        here.clock.advance(seconds)
        await until(lambda number=number: here.looks == number)  # type: ignore[misc]
        await until(lambda: here.clock.turns)
    await here.bell.stop()
    assert here.clock.turns == []


async def test_a_flood_costs_one_look_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """While one goes on, and in the pause after it, all that comes counts as one ring."""
    monkeypatch.setattr(doorbell, "PAUSE", 1e6)
    session = Silent()
    here = Bell(session)
    here.hold = asyncio.Event()
    session.heard()
    await turn()
    for _ in range(1000):
        session.heard()
    assert here.looks == 1
    here.hold.set()
    await turn()
    for _ in range(1000):
        session.heard()
        await turn(1)
    assert here.looks == 1
    await here.bell.stop()


async def test_a_ring_during_a_look_is_followed_by_another_look() -> None:
    session = Silent()
    here = Bell(session)
    here.hold = asyncio.Event()
    session.heard()
    await turn()
    session.heard()
    here.hold.set()
    await until(lambda: here.looks == 2)
    await here.bell.stop()


async def test_those_who_listen_are_woken_after_the_look_and_at_the_end() -> None:
    session = Silent()
    here = Bell(session)
    here.hold = asyncio.Event()
    first = here.bell.listen()
    session.heard()
    await turn()
    assert not first.done()
    here.hold.set()
    await first
    second = here.bell.listen()
    await here.bell.stop()
    assert second.done()
    session.heard()
    await turn()
    assert here.looks == 1


async def test_a_look_that_failed_is_done_again(caplog: pytest.LogCaptureFixture) -> None:
    session = Silent()
    here = Bell(session)
    here.bell._poll_interval = 0.001
    here.fails = 2
    session.heard()
    await until(lambda: here.looks == 3)
    assert caplog.text.count("looking after what another process wrote failed") == 2
    await here.bell.stop()


async def test_a_look_that_hung_in_an_outage_is_followed_by_no_longer_pause_than_usual() -> None:
    session = Silent()
    here = Bell(session)
    here.bell._poll_interval = 0.001
    here.hold = asyncio.Event()
    session.heard()
    await turn()
    here.clock.advance(1e6)
    here.hold.set()
    session.heard()
    await until(lambda: here.looks == 2)
    await here.bell.stop()
