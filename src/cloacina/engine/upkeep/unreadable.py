"""Executions that a runner could not read: it sets them aside, and the next one with codecs tries them again.

So a program that was started without a key, or before a file was put back, does no lasting harm.
"""

from __future__ import annotations

from cloacina.clock import Clock
from cloacina.engine.driving.records import error_of
from cloacina.engine.storage.store_thread import StoreThread
from cloacina.model.ids import new_id
from cloacina.model.status import CommandKind, ExecutionStatus
from cloacina.observe.logs import get_logger
from cloacina.store.port import ReadStore, WriteStore
from cloacina.store.rows import Command, ExecutionFilter, StoredExecution

log = get_logger("payloads")

UNREADABLE = "what is stored of it cannot be read"
"""How the reason begins for which such an execution is parked."""

PAGE = 1_000


async def try_again(writer: StoreThread[WriteStore], reader: StoreThread[ReadStore], clock: Clock) -> None:
    """Resume every execution that was parked because it could not be read."""
    resumed, last = 0, None
    while True:
        rows = await _parked(reader, last)
        for row in filter(_was_unreadable, rows):
            await _resume(writer, row.id, clock.now())
            resumed += 1
        if len(rows) < PAGE:
            break
        last = rows[-1].id
    if resumed:
        log.info("executions tried again that a runner could not read: %d", resumed)


async def _parked(reader: StoreThread[ReadStore], before: str | None) -> list[StoredExecution]:
    look = ExecutionFilter(status=(ExecutionStatus.PARKED,), before=before, limit=PAGE)
    return await reader.run(lambda store: store.executions(look))


async def _resume(writer: StoreThread[WriteStore], execution: str, now: int) -> None:
    command = Command(new_id(now), execution, CommandKind.RESUME, now)
    await writer.run(lambda store: store.send(command))


def _was_unreadable(row: StoredExecution) -> bool:
    return (error_of(row) or "").startswith(UNREADABLE)
