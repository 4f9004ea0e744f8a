"""The errands of one body, where its loop is no longer there."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from cloacina.engine.bodies.errands import Errands
from cloacina.engine.bodies.notebook import to_end
from cloacina.engine.executors.attempt import Attempt
from cloacina.model.context.context import Context
from cloacina.model.json.values import Limits
from cloacina.model.task import task


class Stopped:
    """What an `Errands` needs of a courier whose loop has ended."""

    def __init__(self, *, closed: bool) -> None:
        self.loop = asyncio.new_event_loop()
        self.limits = Limits()
        if closed:
            self.loop.close()


@pytest.mark.parametrize("closed", [True, False])
def test_a_thread_does_not_wait_for_a_loop_that_has_ended(
    closed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    @task
    def it(ctx: Context) -> None: ...

    async def work() -> int:
        return 1

    monkeypatch.setattr("cloacina.engine.bodies.errands.LOOK_AGAIN", 0.001)
    courier: Any = Stopped(closed=closed)
    errands = Errands(Attempt("e", "w", it, 0, 1, 0, False), courier)
    with pytest.raises(RuntimeError if closed else asyncio.CancelledError):
        to_end(errands.done(work()))
    courier.loop.close()
