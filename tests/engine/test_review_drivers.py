"""Drivers in odd moments: refusals while bodies run, endings that cannot be made, calls that raise."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from cloacina.engine.mailbox import Mailbox
from cloacina.errors import StoreRefused
from cloacina.model.context.context import Context
from cloacina.model.status import AttemptState, ExecutionStatus
from cloacina.model.task import task
from cloacina.model.workflow import Workflow
from cloacina.store.rows import Group
from support.clock import HandClock, turn, until
from support.runners import Gate, in_memory
from support.stores import interfere

COMPLETED, FAILED = ExecutionStatus.COMPLETED, ExecutionStatus.FAILED


async def test_a_refused_cancel_leaks_no_slot() -> None:
    gate, refusals = Gate(), list[Group]()
    holds = Workflow("holds", [task(gate.pass_through, id="it")])
    quick = Workflow("quick")

    @quick.task
    async def it(ctx: Context) -> None: ...

    def refuse(group: Group) -> Exception | None:
        ends = [end for item in group.items for end in item.ends]
        if len(refusals) < 1 and any(end.state is AttemptState.CANCELLED for end in ends):
            refusals.append(group)
            return StoreRefused("says the test")
        return None

    async with in_memory(holds, quick, async_slots=1) as runner:
        handle = await runner.submit(holds)
        await gate.reached()
        interfere(runner).refuses = refuse
        await handle.cancel()
        assert refusals
        assert (await runner.execute(quick, timeout=10)).status is COMPLETED


class Hostile(dict[str, Any]):
    """A mapping that breaks when it is read."""

    def items(self) -> Any:
        raise ZeroDivisionError("says the test")

    def __iter__(self) -> Iterator[str]:
        raise ZeroDivisionError("says the test")

    def keys(self) -> Any:
        raise ZeroDivisionError("says the test")


@pytest.mark.parametrize("kind", ["async", "def"])
async def test_a_context_that_cannot_be_read_fails_the_attempt(kind: str) -> None:
    def spoil(ctx: Context) -> None:
        ctx["list"] = []
        ctx["list"].append(Hostile(a=1))

    async def spoil_on_loop(ctx: Context) -> None:
        spoil(ctx)

    spoils = Workflow("spoils", [task(spoil if kind == "def" else spoil_on_loop, id="it", retry=False)])
    async with in_memory(spoils) as runner:
        result = await runner.execute(spoils, timeout=10)
    assert result.status is FAILED and result.tasks["it"].error is not None


async def test_a_call_that_raises_does_not_hold_up_those_after_it() -> None:
    loop, called, told = asyncio.get_running_loop(), list[str](), list[object]()
    loop.set_exception_handler(lambda loop, context: told.append(context["exception"]))
    mailbox = Mailbox(loop)

    def broken() -> None:
        raise ZeroDivisionError

    mailbox.post(broken)
    mailbox.post(lambda: called.append("second"))
    await turn()
    assert called == ["second"] and len(told) == 1


async def test_a_zombie_of_an_earlier_life_has_no_say_in_the_slots_of_the_next_one() -> None:
    gate, child_gate = Gate(), Gate()
    child = Workflow("child", [task(child_gate.pass_through, id="it")])
    parent, clock = Workflow("parent"), HandClock()
    lives = list[str]()

    @parent.task
    async def it(ctx: Context) -> None:
        lives.append(runner.id)
        if len(lives) > 1:
            return await gate.pass_through(ctx)
        while True:
            try:
                await gate.pass_through(ctx)
                break
            except asyncio.CancelledError:
                await until(lambda: len(lives) > 1, "the second life")
                await runner.execute(child)
                break

    async with in_memory(parent, child, clock=clock, async_slots=2) as runner:
        await runner.submit(parent)
        await gate.reached()
        life: Any = runner._engine.life
        from cloacina.errors import Fenced

        runner._engine._lost(life.runner, Fenced("says the test"))
        await until(lambda: child_gate.entered, "the zombie's child")
        now: Any = runner._engine.life
        assert now is not life and now.dispatcher.lanes["loop"].taken == 2
        child_gate.open()
        gate.open()
        await turn(200)
        assert now.dispatcher.bodies == 0


async def test_an_execution_that_cannot_even_be_parked_cannot_be_cancelled_but_says_so() -> None:
    gate = Gate()
    holds = Workflow("holds", [task(gate.pass_through, id="it")])
    async with in_memory(holds) as runner:
        handle = await runner.submit(holds)
        await gate.reached()
        store = interfere(runner)
        store.refuses = lambda group: StoreRefused("says the test") if group.items else None
        gate.open()
        await until(lambda: handle.id not in runner._engine.life.drivers, "giving up")
        with pytest.raises(StoreRefused, match="given up"):
            await asyncio.wait_for(handle.cancel(), 10)
        assert "given up" in (await runner.explain(handle.id)).reason


async def test_a_thread_that_cannot_be_started_fails_the_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    left, whole = [2], threading.Thread.start

    def start(self: threading.Thread) -> None:
        if self.name.startswith("cloacina-body") and left[0]:
            left[0] -= 1
            raise RuntimeError("can't start new thread")
        whole(self)

    monkeypatch.setattr(threading.Thread, "start", start)
    ran = Workflow("ran")

    @ran.task(retry=False)
    def it(ctx: Context) -> None: ...

    async with in_memory(ran, thread_slots=1) as runner:
        for expected in (FAILED, FAILED, COMPLETED, COMPLETED):
            assert (await runner.execute(ran, timeout=10)).status is expected
