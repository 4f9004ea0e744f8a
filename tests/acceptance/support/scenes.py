"""Scenes: shapes that something is done to while they run, and those that the campaign needs beside the others."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from acceptance.support.ledger import ledger, recorded
from acceptance.support.shape import Shape, workflow
from cloacina.errors import PermanentError
from cloacina.model.context.context import Context
from cloacina.model.context.handle import TaskHandle
from cloacina.model.rules import context_value, task_failed
from cloacina.model.workflow import Workflow

PARTS = 6

fan = workflow("fan", retry=1)


@fan.task
async def spread(ctx: Context) -> None:
    with recorded():
        ctx["parts"] = PARTS


def _part(number: int) -> None:
    @fan.task(id=f"part_{number}", dependencies=[spread])
    async def part(ctx: Context) -> None:
        with recorded():
            ctx[f"part_{number}"] = ctx["n"] + number


for _number in range(PARTS):
    _part(_number)


@fan.task(dependencies=[f"part_{number}" for number in range(PARTS)])
def collect(ctx: Context) -> None:
    with recorded():
        ctx["total"] = sum(ctx[f"part_{number}"] for number in range(PARTS))


choice = workflow("choice", retry=1)


@choice.task
async def look(ctx: Context) -> None:
    with recorded():
        ctx["even"] = ctx["n"] % 2 == 0


@choice.task(dependencies=[look], trigger_rules=context_value("even", "==", True))
async def take_even(ctx: Context) -> None:
    with recorded():
        ctx["took"] = "even"


@choice.task(dependencies=[look], trigger_rules=context_value("even", "==", False))
async def take_odd(ctx: Context) -> None:
    with recorded():
        ctx["took"] = "odd"


@choice.task(dependencies=[look], trigger_rules=task_failed(look))
async def alert(ctx: Context) -> None:
    with recorded():
        ctx["alert"] = True


@choice.task(dependencies=[alert])
async def after_alert(ctx: Context) -> None:
    with recorded():
        ctx["after"] = True


@choice.task(dependencies=[take_even, take_odd])
async def meet(ctx: Context) -> None:
    with recorded():
        ctx["met"] = ctx["took"]


endless = workflow("endless", retry=1)


@endless.task
async def never_ends(ctx: Context) -> None:
    with recorded():
        await asyncio.Event().wait()


@endless.task(dependencies=[never_ends])
async def never_comes(ctx: Context) -> None:
    with recorded():
        ctx["came"] = True


halted = workflow("halted", retry=1)


@halted.task
async def before_halt(ctx: Context) -> None:
    with recorded():
        ctx["trail"] = [1]


@halted.task(dependencies=[before_halt])
def at_halt(ctx: Context) -> None:
    with recorded():
        ctx["trail"].append(2)


@halted.task(dependencies=[at_halt])
async def after_halt(ctx: Context) -> None:
    with recorded():
        ctx["trail"].append(3)


mended = workflow("mended", retry=1)


@mended.task
async def prepare(ctx: Context) -> None:
    with recorded():
        ctx["prepared"] = ctx["n"] * 2


@mended.task(dependencies=[prepare])
async def breaks(ctx: Context) -> None:
    """Fails until it is mended, which happens only after it has failed."""
    with recorded():
        if not ledger().marked(f"mended.{ctx['n']}"):
            raise PermanentError("not mended yet")
        ctx["mended"] = ctx["prepared"] + 1


again = workflow("again", retry=1)


@again.task
async def once(ctx: Context) -> None:
    with recorded():
        ctx["once"] = ctx["n"]


@again.task(dependencies=[once])
async def twice(ctx: Context) -> None:
    with recorded():
        ctx["twice"] = ctx["once"] + ctx["n"]


def _relay(edition: int) -> Workflow:
    relay = workflow("relay", retry=1)

    @relay.task
    async def run_first(ctx: Context) -> None:
        with recorded():
            ctx["first"] = ctx["n"]

    @relay.task(dependencies=[run_first])
    async def run_second(ctx: Context) -> None:
        with recorded():
            ctx["second"] = ctx["first"] + 1

    async def run_last(ctx: Context) -> None:
        with recorded():
            ctx["last"] = ctx["second"] + 1

    async def run_last_newly(ctx: Context) -> None:
        with recorded():
            ctx["last"] = ctx["second"] + 0 + 1

    body = run_last if edition == 1 else run_last_newly
    relay.task(body, id="run_last", dependencies=[run_second])
    return relay


postponed = workflow("postponed", retry=1)


def _second_look(handle: TaskHandle) -> bool:
    return not ledger().first_time(f"{handle.execution}.{handle.task}.{handle.attempt}")


@postponed.task
async def waits_on_the_loop(ctx: Context, handle: TaskHandle) -> None:
    with recorded():
        await handle.defer_until(lambda: _second_look(handle), 0.01)
        ctx["one"] = ctx["n"]


@postponed.task(dependencies=[waits_on_the_loop])
def waits_on_a_thread(ctx: Context, handle: TaskHandle) -> None:
    with recorded():
        handle.defer_until(lambda: _second_look(handle), 0.01)
        ctx["two"] = ctx["one"] + 1


nap = workflow("nap")
NAP = 0.05


@nap.task
async def nap_on_the_loop(ctx: Context) -> None:
    with recorded():
        await asyncio.sleep(NAP)
        ctx["napped"] = 1


@nap.task(dependencies=[nap_on_the_loop])
def nap_on_a_thread(ctx: Context) -> None:
    with recorded():
        time.sleep(NAP)
        ctx["napped"] += 1


def _halved(n: int) -> dict[str, Any]:
    took = "odd" if n % 2 else "even"
    return {"n": n, "even": took == "even", "took": took, "met": took}


SCENES = {
    "fan": Shape(
        fan,
        lambda n: {
            "n": n,
            "parts": PARTS,
            **{f"part_{number}": n + number for number in range(PARTS)},
            "total": sum(n + number for number in range(PARTS)),
        },
    ),
    "choice": Shape(
        choice,
        _halved,
        states={
            "take_even": "completed skipped",
            "take_odd": "completed skipped",
            "alert": "skipped",
            "after_alert": "skipped",
        },
    ),
    "endless": Shape(
        endless,
        lambda n: {"n": n},
        "cancelled",
        {"never_ends": "cancelled skipped", "never_comes": "skipped"},
        deed="cancel",
    ),
    "halted": Shape(halted, lambda n: {"n": n, "trail": [1, 2, 3]}, deed="pause"),
    "mended": Shape(
        mended,
        lambda n: {"n": n, "prepared": n * 2},
        "failed",
        {"breaks": "failed"},
        deed="retry",
        forked=lambda n: {"n": n, "prepared": n * 2, "mended": n * 2 + 1},
    ),
    "again": Shape(
        again,
        lambda n: {"n": n, "once": n, "twice": 2 * n},
        deed="fork",
        forked=lambda n: {"n": n, "once": n, "twice": 2 * n},
    ),
    "relay": Shape(
        _relay(1), lambda n: {"n": n, "first": n, "second": n + 1, "last": n + 2}, newer=_relay(2)
    ),
    "postponed": Shape(postponed, lambda n: {"n": n, "one": n, "two": n + 1}),
    "nap": Shape(nap, lambda n: {"n": n, "napped": 2}),
}
