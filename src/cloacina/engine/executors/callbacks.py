"""Callbacks of tasks and workflows: after the commit, at most once, and never able to change anything."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from cloacina.engine.executors.threads import BodyThreads
from cloacina.model.context.context import Context
from cloacina.model.result import ErrorInfo
from cloacina.model.status import ExecutionStatus, TaskState
from cloacina.observe.logs import get_logger

log = get_logger("callbacks")


@dataclass(frozen=True, slots=True)
class CallbackInfo:
    """What a callback is told. ``task`` and ``attempts`` are None where it is about the execution."""

    execution: str
    workflow: str
    status: TaskState | ExecutionStatus
    task: str | None = None
    attempts: int | None = None
    error: ErrorInfo | str | None = None


Callback = Callable[[Context, CallbackInfo], Any]


class Callbacks:
    """Runs callbacks beside the engine: errors and overruns are logged, and change nothing."""

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._threads = BodyThreads()
        self._open: set[asyncio.Task[None]] = set()

    def call(self, callback: Callback, context: Context, info: CallbackInfo) -> None:
        """Start ``callback(context, info)``."""
        task = asyncio.get_running_loop().create_task(self._run(callback, context, info))
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    @property
    def busy(self) -> bool:
        """True while any of them runs."""
        return bool(self._open)

    async def finish(self) -> None:
        """Wait for those that run; one that ignores that its time is up is left behind."""
        if self._open:
            _, stuck = await asyncio.wait(set(self._open), timeout=2 * self._limit)
            if stuck:
                log.error("%d callbacks ignored their time limit and are left behind", len(stuck))
        self._threads.close()

    async def _run(self, callback: Callback, context: Context, info: CallbackInfo) -> None:
        try:
            async with asyncio.timeout(self._limit):
                if inspect.iscoroutinefunction(callback):
                    await callback(context, info)
                else:
                    await self._on_thread(callback, context, info)
        except BaseException as error:
            log.error(
                "a callback failed; nothing depends on it: %r",
                error,
                exc_info=error,
                extra={"execution": info.execution, "workflow": info.workflow, "task": info.task or "-"},
            )

    async def _on_thread(self, callback: Callback, context: Context, info: CallbackInfo) -> None:
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[BaseException | None] = loop.create_future()

        def report(error: BaseException | None) -> None:
            if not ended.done():
                ended.set_result(error)

        def work() -> None:
            error: BaseException | None = None
            try:
                callback(context, info)
            except BaseException as caught:
                error = caught
            with suppress(RuntimeError):  # the loop is closed: its time was up long ago
                loop.call_soon_threadsafe(report, error)

        self._threads.start(work)
        error = await ended
        if error is not None:
            raise error
