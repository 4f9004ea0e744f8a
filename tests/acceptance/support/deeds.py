"""Deeds: what whoever submitted an execution does to it afterwards, each told to the ledger."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from acceptance.support.ledger import ledger
from acceptance.support.order import Ask
from acceptance.support.shapes import SHAPES
from cloacina.clock import SystemClock
from cloacina.desk import Desk
from cloacina.errors import CommandTimeout, ResultTimeout
from cloacina.model.result import ExecutionInfo
from cloacina.model.status import ExecutionStatus

LIVE = [status for status in ExecutionStatus if not status.terminal]
A_WHILE = 0.02
"""Seconds that an execution stays paused."""


async def do(desk: Desk, ask: Ask, execution: str) -> None:
    """Do what the shape of ``ask`` says."""
    deed = _DEEDS.get(SHAPES[ask.shape].deed)
    if deed is not None:
        with suppress(CommandTimeout):
            await deed(desk, ask, execution)


async def see_off(desk: Desk) -> None:
    """Wait until everything has ended; what does not end by itself is resumed or cancelled, as was begun before."""
    while found := await desk.list(status=LIVE, limit=10_000):
        await asyncio.gather(*(_see_off(desk, one) for one in found))


async def _see_off(desk: Desk, one: ExecutionInfo) -> None:
    with suppress(CommandTimeout, ResultTimeout):
        if SHAPES[one.workflow].deed == "cancel":
            await desk.cancel(one.id)
        if one.status is ExecutionStatus.PAUSED:
            _tell("resumed", one.id)
            await desk.resume(one.id)
        await desk.result(one.id, timeout=1.0)  # what somebody asked to be paused may be so by now


async def _cancel(desk: Desk, ask: Ask, execution: str) -> None:
    await desk.cancel(execution)
    _tell("halted", execution)


async def _pause(desk: Desk, ask: Ask, execution: str) -> None:
    await desk.pause(execution)
    _tell("halted", execution)
    await asyncio.sleep(A_WHILE)
    _tell("resumed", execution)
    await desk.resume(execution)


async def _retry(desk: Desk, ask: Ask, execution: str) -> None:
    await desk.result(execution)
    ledger().mark(f"mended.{ask.number}")
    ledger().write("fork", execution)
    handle = await desk.retry(execution)
    ledger().write("forked", execution, handle.id)


async def _fork(desk: Desk, ask: Ask, execution: str) -> None:
    await desk.result(execution)
    ledger().write("fork", execution)
    handle = await desk.fork(execution, from_task="twice")
    ledger().write("forked", execution, handle.id)


def _tell(kind: str, execution: str) -> None:
    ledger().write(kind, execution, SystemClock().now())


_DEEDS: dict[str, Callable[[Desk, Ask, str], Awaitable[None]]] = {
    "cancel": _cancel,
    "pause": _pause,
    "retry": _retry,
    "fork": _fork,
}
