"""Reduction: the smallest plan that still breaks a promise, found by leaving things out."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from simulation.plan import Plan
from simulation.play import Report, play

MOST_TRIES = 2_000


def reduced(report: Report, most: int = MOST_TRIES) -> Report:
    """A report of a plan that is as small as it gets by leaving out one thing after the other, ``most`` times."""
    tries, smaller = 0, True
    while smaller and tries < most:
        smaller = False
        for plan in _smaller(report.plan):
            tries += 1
            found = play(plan)
            if found.broken:
                report, smaller = found, True
                break
    return report


def _smaller(plan: Plan) -> Iterator[Plan]:
    """Plans with a little less in them, those that leave out most first."""
    for name in ("blows", "trips", "orders"):
        things = getattr(plan, name)
        if len(things) > 1:
            yield replace(plan, **{name: things[: len(things) // 2]})
            yield replace(plan, **{name: things[len(things) // 2 :]})
        for place in range(len(things)):
            yield replace(plan, **{name: things[:place] + things[place + 1 :]})
    for number in reversed(range(len(plan.asks))):
        yield _without_ask(plan, number)
    for number, ask in enumerate(plan.asks):
        if ask.many > 1:
            asks = (*plan.asks[:number], replace(ask, many=ask.many // 2), *plan.asks[number + 1 :])
            yield replace(plan, asks=asks)
    yield from _with_fewer_tasks(plan)
    if plan.places > 1:
        last = plan.places - 1
        if not any(one.place == last for one in (*plan.asks, *plan.orders, *plan.blows, *plan.trips)):
            yield replace(plan, places=last)


def _without_ask(plan: Plan, number: int) -> Plan:
    orders = tuple(
        replace(order, ask=order.ask - (order.ask > number)) for order in plan.orders if order.ask != number
    )
    return replace(plan, asks=plan.asks[:number] + plan.asks[number + 1 :], orders=orders)


def _with_fewer_tasks(plan: Plan) -> Iterator[Plan]:
    """Without one workflow that nobody asks for, or without one task that no other depends on."""
    asked = {ask.workflow for ask in plan.asks}
    for generation, workflows in enumerate(plan.generations):
        for place, workflow in enumerate(workflows):
            rest = workflows[:place] + workflows[place + 1 :]
            if workflow.name not in asked:
                yield _with(plan, generation, rest)
                continue
            for task in reversed(workflow.tasks):
                if len(workflow.tasks) > 1 and not any(task.id in one.after for one in workflow.tasks):
                    fewer = replace(workflow, tasks=tuple(one for one in workflow.tasks if one is not task))
                    yield _with(plan, generation, (*workflows[:place], fewer, *workflows[place + 1 :]))


def _with(plan: Plan, generation: int, workflows: tuple[object, ...]) -> Plan:
    generations = (*plan.generations[:generation], workflows, *plan.generations[generation + 1 :])
    return replace(plan, generations=generations)
