"""The guard of a context: functions of checkpoints read it and change nothing, whatever the body does meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from cloacina.errors import CheckpointError, ContextError
from cloacina.model.context.context import Context
from cloacina.model.context.keys import Key

ROWS, TOTAL = Key("rows", list[int]), Key("total", int)

CHANGES: dict[str, Callable[[Context], Any]] = {
    "assign": lambda ctx: ctx.__setitem__("new", 1),
    "assign by key": lambda ctx: ctx.__setitem__(TOTAL, 2),
    "delete": lambda ctx: ctx.__delitem__("total"),
    "insert": lambda ctx: ctx.insert("new", 1),
    "pop": lambda ctx: ctx.pop("total"),
    "pop of nothing": lambda ctx: ctx.pop("nothing", None),
    "setdefault": lambda ctx: ctx.setdefault("new", 1),
    "update": lambda ctx: ctx.update(new=1),
    "clear": lambda ctx: ctx.clear(),
    "append in place": lambda ctx: ctx["rows"].append(9),
    "append by key": lambda ctx: ctx[ROWS].append(9),
    "deep in place": lambda ctx: ctx["tree"]["leaf"].update(x=1),
    "something foreign": lambda ctx: ctx["rows"].append(object()),
    "to what the body holds": lambda ctx: ctx["held"].append(9),
}


def context() -> Context:
    ctx = Context.over({"rows": [1], "total": 1, "tree": {"leaf": {}}, "held": [1]})
    ctx["own"] = [1]
    assert ctx["held"] == [1]
    return ctx


@pytest.mark.parametrize("how", CHANGES)
def test_a_function_that_changes_the_context_is_found_out(how: str) -> None:
    ctx = context()
    before = ctx.to_dict()
    with (
        pytest.raises(CheckpointError, match=r"checkpoint 'fetch'.*return the value"),
        ctx.watch().over("fetch"),
    ):
        CHANGES[how](ctx)
    assert ctx.to_dict() == before, "and has changed nothing"
    CHANGES[how](ctx)  # the body may


def test_a_function_may_read() -> None:
    ctx = context()
    ctx["rows"].append(2)
    with ctx.watch().over("fetch"):
        assert (ctx["rows"], ctx[ROWS], ctx["own"], ctx["total"]) == ([1, 2], [1, 2], [1], 1)
        assert ctx.get("nothing") is None and "rows" in ctx and ctx.to_dict()["held"] == [1]
        other = Context({"rows": []})
        other["rows"].append(1)  # a context of its own is no concern of the body's
    assert ctx["rows"] == [1, 2]


def test_an_error_of_the_function_comes_first() -> None:
    ctx = context()
    with pytest.raises(KeyError), ctx.watch().over("fetch"):
        ctx["rows"].append(9)
        raise KeyError("its own")


async def test_the_body_may_change_the_context_while_a_function_waits() -> None:
    """Two parts of one body, each with a checkpoint, as under `asyncio.gather`."""
    ctx, go_on = context(), asyncio.Event()

    async def waits() -> None:
        with ctx.watch().over("slow"):
            assert ctx["rows"] == [1]
            await go_on.wait()
            assert ctx["rows"] == [1, 5], "reading again shows what the body did"

    async def changes() -> None:
        with ctx.watch().over("fast"):
            await asyncio.sleep(0)
        ctx["fast"] = True
        ctx["rows"].append(5)
        go_on.set()

    await asyncio.gather(waits(), changes())
    assert ctx.patch() == {"set": {"own": [1], "fast": True}, "append": {"rows": [5]}}


async def test_what_a_function_starts_is_watched_too() -> None:
    ctx = context()

    async def change() -> None:
        ctx["new"] = 1

    with ctx.watch().over("fetch"), pytest.raises(CheckpointError, match="'fetch'"):
        await asyncio.gather(change())


def test_the_inner_of_two_functions_is_named() -> None:
    ctx = context()
    with ctx.watch().over("outer"):
        with pytest.raises(CheckpointError, match="'inner'"), ctx.watch().over("inner"):
            ctx["new"] = 1
        with pytest.raises(CheckpointError, match="'outer'"):
            ctx["new"] = 1


def test_a_context_without_an_attempt_has_no_checkpoints() -> None:
    for ctx in (Context(), Context.over({}, read_only=True), context().copy()):
        with pytest.raises(CheckpointError, match="'x': no attempt that runs has this context"):
            ctx.checkpoint("x", lambda: 1)


def test_a_read_only_context_stays_so() -> None:
    ctx = Context.over({"rows": [1]}, read_only=True)
    ctx["rows"].append(2)
    assert ctx["rows"] == [1]
    with pytest.raises(ContextError, match="read-only"):
        ctx["new"] = 1
