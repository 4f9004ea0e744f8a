"""The workflows that the acceptance tests run, and what each must come to, worked out by hand."""

from __future__ import annotations

import ctypes
import os
from functools import partial
from typing import Any

from acceptance.support.ledger import ledger, recorded, say
from acceptance.support.scenes import SCENES
from acceptance.support.shape import SOON, Shape, workflow
from cloacina.errors import PermanentError
from cloacina.model.context.context import Context
from cloacina.model.context.handle import TaskHandle
from cloacina.model.rules import task_failed, task_success

single = workflow("single")


@single.task
async def only(ctx: Context) -> None:
    with recorded():
        ctx["out"] = ctx["n"] * 3


chain = workflow("chain")


@chain.task
async def one(ctx: Context) -> None:
    with recorded():
        ctx["sum"] = ctx["n"] + 1


@chain.task(dependencies=[one])
def two(ctx: Context) -> None:
    with recorded():
        ctx["sum"] = ctx["sum"] + 2


@chain.task(dependencies=[two])
async def three(ctx: Context) -> None:
    with recorded():
        ctx["sum"] = ctx["sum"] + 3


@chain.task(dependencies=[three])
async def four(ctx: Context) -> None:
    with recorded():
        ctx["sum"] = ctx["sum"] + 4


diamond = workflow("diamond", retry=1)


@diamond.task
async def top(ctx: Context) -> None:
    with recorded():
        ctx["trail"] = ["top"]


def _branch(ctx: Context, name: str) -> None:
    with recorded():
        ctx["trail"].append(name)
        ctx[name] = ctx["n"] + len(name)


@diamond.task(dependencies=[top])
async def left(ctx: Context) -> None:
    _branch(ctx, "left")


@diamond.task(dependencies=[top])
def middle(ctx: Context) -> None:
    _branch(ctx, "middle")


@diamond.task(dependencies=[top])
async def right(ctx: Context) -> None:
    _branch(ctx, "right")


@diamond.task(dependencies=[left, middle, right])
async def bottom(ctx: Context) -> None:
    with recorded():
        ctx["trail"].append("bottom")
        ctx["total"] = ctx["left"] + ctx["middle"] + ctx["right"]


flaky = workflow("flaky")


@flaky.task(retry=SOON)
async def stumbles(ctx: Context) -> None:
    with recorded() as attempt:
        if ledger().first_time(f"{attempt.execution}.stumbles"):
            raise ConnectionError("the first time it always fails")
        ctx["stumbled"] = True


@flaky.task(dependencies=[stumbles])
async def after(ctx: Context) -> None:
    with recorded():
        ctx["after"] = ctx["n"]


fallback = workflow("fallback")


@fallback.task(retry=SOON)
async def fetch(ctx: Context) -> None:
    with recorded():
        ctx["fetched"] = "half"
        raise PermanentError("no such host")


@fallback.task(dependencies=[fetch], trigger_rules=task_failed(fetch))
async def cached(ctx: Context) -> None:
    with recorded():
        ctx["source"] = "cache"


@fallback.task(dependencies=[fetch], trigger_rules=task_success(fetch))
async def celebrate(ctx: Context) -> None:
    with recorded():
        ctx["source"] = "network"


@fallback.task(dependencies=[cached, celebrate])
async def report(ctx: Context) -> None:
    with recorded():
        ctx["report"] = f"{ctx['n']} from {ctx['source']}"


gated = workflow("gated")


@gated.task
def waits(ctx: Context) -> None:
    """Waits at the gate the first time, on a thread; passes it when it is repeated."""
    with recorded() as attempt:
        if attempt.attempt == 1:
            ledger().wait_at_gate()
        ctx["attempt"] = attempt.attempt


@gated.task(dependencies=[waits])
async def follows(ctx: Context) -> None:
    with recorded():
        ctx["followed"] = True


stale = workflow("stale")


@stale.task(retry=1)
def fails_late(ctx: Context) -> None:
    """Waits at the gate the first time and then fails, which must not count if it was repeated meanwhile."""
    with recorded() as attempt:
        if attempt.attempt == 1:
            ledger().wait_at_gate()
            raise RuntimeError("the failure of a body whose runner is no longer alive")
        ctx["attempt"] = attempt.attempt


blocking = workflow("blocking")


@blocking.task
async def blocks_the_loop(ctx: Context) -> None:
    """Waits at the gate the first time, on the event loop itself."""
    with recorded() as attempt:
        if attempt.attempt == 1:
            ledger().wait_at_gate()
        ctx["attempt"] = attempt.attempt


exits = workflow("exits")


@exits.task(retry=1)
async def leave(ctx: Context) -> None:
    with recorded():
        os._exit(7)


segfaults = workflow("segfaults")


@segfaults.task(retry=1)
def read_nothing(ctx: Context) -> None:
    with recorded():
        ctypes.string_at(0)


victim = workflow("victim")


@victim.task(retry=1)
def suffers(ctx: Context) -> None:
    """May fail never; the first two times it waits at the gate, so that crashes find it running."""
    with recorded() as attempt:
        if attempt.attempt <= 2:
            ledger().wait_at_gate()
        ctx["survived"] = ctx["n"]


stepwise = workflow("stepwise", retry=1)

STEPS = ("one", "two", "three", "four", "five")


def made(execution: str, name: str, value: Any) -> Any:
    """The function of a checkpoint: its side effect is a line in the ledger."""
    ledger().write("made", execution, name, os.getpid())
    return value


def kept(execution: str, name: str) -> None:
    """What a body does once it has the value."""
    ledger().write("kept", execution, name, os.getpid())


@stepwise.task
async def walks(ctx: Context, handle: TaskHandle) -> None:
    with recorded():
        ctx["steps"] = []
        for name in STEPS:
            step = partial(made, handle.execution, name, f"{name} of {ctx['n']}")
            ctx["steps"].append(await ctx.checkpoint(name, step))
            kept(handle.execution, name)


@stepwise.task(dependencies=[walks])
def climbs(ctx: Context, handle: TaskHandle) -> None:
    with recorded():
        for name in STEPS[:2]:
            ctx[name] = ctx.checkpoint(name, partial(made, handle.execution, f"{name}-up", ctx["n"]))
            kept(handle.execution, f"{name}-up")


slow_step = workflow("slow_step", retry=1)


@slow_step.task
def dawdles(ctx: Context, handle: TaskHandle) -> None:
    """The function of its second checkpoint waits at the gate the first time."""

    def make() -> int:
        ledger().write("made", handle.execution, "slow", os.getpid())
        if handle.attempt == 1:
            ledger().wait_at_gate()
        return handle.attempt

    with recorded():
        ctx["quick"] = ctx.checkpoint("quick", partial(made, handle.execution, "quick", handle.attempt))
        kept(handle.execution, "quick")
        ctx["slow"] = ctx.checkpoint("slow", make)
        kept(handle.execution, "slow")


deferring = workflow("deferring", retry=1)


def gate_is_open() -> bool:
    say("looks")
    return ledger().gate_is_open()


@deferring.task
async def waits_outside(ctx: Context, handle: TaskHandle) -> None:
    with recorded():
        await handle.defer_until(gate_is_open, 0.01)
        ctx["waited"] = handle.attempt


@deferring.task
def waits_inside(ctx: Context, handle: TaskHandle) -> None:
    with recorded():
        handle.defer_until(gate_is_open, 0.01)
        ctx["waited too"] = handle.attempt


POISONED = {"leave": "failed", "read_nothing": "failed"}

SHAPES: dict[str, Shape] = {
    "single": Shape(single, lambda n: {"n": n, "out": n * 3}),
    "chain": Shape(chain, lambda n: {"n": n, "sum": n + 10}),
    "diamond": Shape(
        diamond,
        lambda n: {
            "n": n,
            "trail": ["top", "left", "middle", "right", "bottom"],
            "left": n + 4,
            "middle": n + 6,
            "right": n + 5,
            "total": 3 * n + 15,
        },
    ),
    "flaky": Shape(flaky, lambda n: {"n": n, "stumbled": True, "after": n}),
    "fallback": Shape(
        fallback,
        lambda n: {"n": n, "source": "cache", "report": f"{n} from cache"},
        states={"fetch": "failed", "celebrate": "skipped"},
    ),
    "gated": Shape(gated, lambda n: {"n": n, "attempt": ..., "followed": True}),
    "stale": Shape(stale, lambda n: {"n": n, "attempt": ...}),
    "blocking": Shape(blocking, lambda n: {"n": n, "attempt": ...}),
    "exits": Shape(exits, lambda n: {"n": n}, "failed", POISONED),
    "segfaults": Shape(segfaults, lambda n: {"n": n}, "failed", POISONED),
    "victim": Shape(victim, lambda n: {"n": n, "survived": n}),
    "stepwise": Shape(
        stepwise,
        lambda n: {"n": n, "steps": [f"{name} of {n}" for name in STEPS], "one": n, "two": n},
    ),
    "slow_step": Shape(slow_step, lambda n: {"n": n, "quick": 1, "slow": 2}),
    "deferring": Shape(deferring, lambda n: {"n": n, "waited": ..., "waited too": ...}),
    **SCENES,
}

MIXED = ("single", "chain", "diamond", "flaky", "fallback")
"""Shapes whose bodies are short, and that end by themselves."""
