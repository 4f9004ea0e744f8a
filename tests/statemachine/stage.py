"""The stage: bodies wait here for what the machine tells them to do, and say what they saw."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from cloacina import Context, PermanentError, TaskHandle, TransientError

Place = tuple[str, str, int]
"""An execution, a task, and the number of its attempt."""


@dataclass
class Act:
    """One body that runs."""

    view: dict[str, Any]
    edition: int
    orders: asyncio.Queue[tuple[str, Any, asyncio.Future[Any]]] = field(default_factory=asyncio.Queue)
    may_go_on: bool = False
    """True if the condition that it is deferred for holds."""
    noted: set[str] = field(default_factory=set)
    """The checkpoints that it has used."""


class Stage:
    """The bodies of all runners of one example."""

    def __init__(self) -> None:
        self.acts: dict[Place, Act] = {}
        self.wrong: list[str] = []

    async def play(self, ctx: Context, handle: TaskHandle, edition: int) -> None:
        """What every body does."""
        here: Place = (handle.execution, handle.task, handle.attempt)
        if here in self.acts:
            self.wrong.append(f"the body of {here} runs twice")
        act = self.acts[here] = Act(ctx.to_dict(), edition)
        try:
            while True:
                what, detail, done = await act.orders.get()
                match what:
                    case "write":
                        detail(ctx)
                        return
                    case "fail":
                        raise (PermanentError if detail else TransientError)("as the machine says")
                    case "checkpoint":
                        name, value = detail
                        done.set_result(await ctx.checkpoint(name, _give(value)))
                    case "defer":
                        await handle.defer_until(_look(act), detail)
        finally:
            if self.acts.get(here) is act:
                del self.acts[here]

    def tell(self, place: Place, what: str, detail: Any = None) -> asyncio.Future[Any]:
        """Have a body do something; the answer of a checkpoint is its value."""
        done = asyncio.get_running_loop().create_future()
        self.acts[place].orders.put_nowait((what, detail, done))
        return done


def _give(value: int) -> Callable[[], int]:
    return lambda: value


def _look(act: Act) -> Callable[[], bool]:
    return lambda: act.may_go_on
