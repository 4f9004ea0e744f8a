"""The loop executor: ``async def`` bodies on the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from functools import partial
from typing import Any, cast

from cloacina.engine.executors.around import AroundBody, await_inside
from cloacina.engine.executors.attempt import Attempt
from cloacina.engine.executors.protocol import ExecutorHost
from cloacina.observe.logs import fields_of, get_logger, running

log = get_logger("executor")


class LoopExecutor:
    """Runs bodies as tasks of the event loop: see `TaskExecutor`."""

    def __init__(self, host: ExecutorHost, around: AroundBody | None = None) -> None:
        self.slots = host.settings.async_slots
        self._grace = host.settings.cancel_grace
        self._clock = host.clock
        self._loop = asyncio.get_running_loop()
        self._life = self._loop.create_task(_wait_for_ever())
        """Cancelled when this closes, or else with everything on the loop, because that ends."""
        self._call = Attempt.call if around is None else partial(await_inside, around)

    def start(self, attempt: Attempt) -> None:
        attempt.work = self._loop.create_task(self._run(attempt))

    def stop(self, attempt: Attempt) -> None:
        if attempt.work is not None:
            attempt.work.cancel()
        attempt.due(self._clock.call_later(self._grace, lambda: self._write_off(attempt)))

    async def close(self) -> None:
        self._life.cancel()

    async def _run(self, attempt: Attempt) -> None:
        running.set(attempt)
        returned: Any = None
        error: BaseException | None = None
        try:
            returned = await cast("Awaitable[object]", self._call(attempt))
        except BaseException as caught:
            error = caught
        ending = attempt.conclude(returned, error)
        if attempt.written_off:
            attempt.leave()
        elif error is not None and attempt.stopping is None and self._life.cancelling():
            # The loop ends under a runner that nobody shut down. The body has not failed: the next runner repeats it.
            attempt.due(self._clock.call_later(self._grace, partial(attempt.end, ending)))
        else:
            attempt.end(ending)

    def _write_off(self, attempt: Attempt) -> None:
        if not attempt.ended and attempt.stopping is not None:
            log.error(
                "the body ignored its cancellation for %ss and was written off",
                self._grace,
                extra=fields_of(attempt),
            )
            attempt.write_off()


async def _wait_for_ever() -> None:
    await asyncio.get_running_loop().create_future()
