"""Plans from seeds: random workflows, asks, orders, blows and trips."""

from __future__ import annotations

from random import Random
from typing import get_args

from simulation.disk import Hiccup
from simulation.plan import Ask, Blow, Kind, Order, Plan, TaskPlan, Trip, WorkflowPlan

KINDS: tuple[Kind, ...] = (*get_args(Kind), "kill", "kill", "freeze")
"""What can happen; what matters most does so most often."""


def plan_of(seed: int) -> Plan:
    """The plan that ``seed`` stands for."""
    rng = Random(f"plan {seed}")
    places = rng.choice([1, 2, 2, 3])
    seconds = rng.choice([2.0, 5.0, 10.0, 20.0])
    workflows = tuple(_workflow(rng, f"workflow-{n}", seconds) for n in range(rng.randint(1, 3)))
    generations = (
        (workflows,) if rng.random() < 0.8 else (workflows, tuple(_changed(rng, one) for one in workflows))
    )
    asks = tuple(_ask(rng, places, seconds, workflows, n) for n in range(rng.randint(1, 8)))
    orders = tuple(
        Order(
            round(rng.uniform(0.0, seconds), 3),
            rng.randrange(places),
            rng.randrange(len(asks)),
            rng.choice(["cancel", "pause", "pause", "resume", "resume", "retry"]),
        )
        for _ in range(rng.choice([0, 0, 1, 2, 6]))
    )
    blows = tuple(_blow(rng, places, seconds, len(generations)) for _ in range(rng.choice([0, 1, 2, 4, 8])))
    if rng.random() < 0.05:
        blows += tuple(Blow(0.4 * (n + 1), 0, "kill", seconds=0.05) for n in range(12))
    trips = tuple(
        Trip(rng.randrange(places), rng.randint(1, 3), rng.randint(1, 60), rng.choice(list(Hiccup)))
        for _ in range(rng.choice([0, 0, 2, 8]))
    )
    trips += _trouble(rng, places)
    return Plan(seed, places, _settings(rng), generations, asks, orders, blows, trips, rng.random() < 0.4)


def _trouble(rng: Random, places: int) -> tuple[Trip, ...]:
    """Now and then a database in trouble: hiccups one after the other, so that what is tried again fails again."""
    if rng.random() < 0.7:
        return ()
    place, life, first = rng.randrange(places), rng.randint(1, 2), rng.randint(8, 60)
    kinds = rng.choice([[Hiccup.REPLY_LOST, Hiccup.TIMEOUT], [Hiccup.TIMEOUT], [Hiccup.BUSY]])
    return tuple(
        Trip(place, life, first + n, kinds[min(n, len(kinds) - 1)]) for n in range(rng.choice([2, 3, 6, 10]))
    )


def _settings(rng: Random) -> dict[str, float]:
    slots = rng.choice([1, 2, 4, 16])
    return {
        "async_slots": slots,
        "thread_slots": 1,
        "window": rng.choice([1, slots, 4 * slots]),
        "max_waiting": rng.choice([0, 1, 100]),
        "group_rows": rng.choice([1, 4, 2_000]),
        "crash_cap": rng.choice([1, 1, 3]),
        "lease": rng.choice([2.0, 6.0]),
        "poll_interval": 1.0,
        "start_patience": 10_000.0,
        "shutdown_grace": rng.choice([0.0, 1.0]),
        "cancel_grace": 0.5,
        "command_timeout": 5.0,
        "loop_block_limit": rng.choice([1.0, 5.0]),
        "prune_interval": 1_000_000.0,
    }


def _workflow(rng: Random, name: str, seconds: float) -> WorkflowPlan:
    size = rng.choice([1, 2, 3, 4, 6, 8, 12, 30])
    tasks: list[TaskPlan] = []
    for number in range(size):
        after = tuple(
            sorted(rng.sample([one.id for one in tasks], k=min(len(tasks), rng.choice([0, 1, 1, 2, 3]))))
        )
        tasks.append(_task(rng, f"t{number}", after, seconds))
    timeout = rng.uniform(1.0, seconds) if rng.random() < 0.08 else None
    return WorkflowPlan(name, tuple(tasks), timeout)


def _task(rng: Random, id: str, after: tuple[str, ...], seconds: float) -> TaskPlan:
    rule = _rule(rng, after, 2) if after and rng.random() < 0.3 else None
    how = rng.choice(["raise"] * 16 + ["hang", "hang", "give up", "give up", "cling"])
    return TaskPlan(
        id,
        after,
        rule,
        optional=rng.random() < 0.1,
        seconds=rng.choice([0.0, 0.0, 0.01, 0.1, 0.5]),
        failures=rng.choice([0, 0, 0, 0, 1, 2, 5]),
        how=how,  # type: ignore[arg-type]
        attempts=rng.choice([1, 2, 3]),
        delay=rng.choice([0.0, 0.1, 1.0, 3.0]),
        notes=how == "raise" and rng.random() < 0.15,
        waits=rng.uniform(0.0, 2 * seconds) if how == "raise" and rng.random() < 0.06 else 0.0,
    )


def _rule(rng: Random, after: tuple[str, ...], depth: int) -> object:
    kind = rng.choice(
        ["TaskSuccess", "TaskFailed", "TaskSkipped", "flag", "Always", "All", "Any", "None", "Not"]
    )
    if kind in ("TaskSuccess", "TaskFailed", "TaskSkipped") or (not depth and kind not in ("flag", "Always")):
        kind = kind if kind.startswith("Task") else "TaskSuccess"
        return {"type": kind, "task_name": rng.choice(after)}
    if kind == "flag":
        return {"type": "ContextValue", "key": "flag", "operator": "Equals", "value": True}
    if kind == "Always":
        return {"type": "Always"}
    if kind == "Not":
        return {"type": "Not", "condition": _rule(rng, after, depth - 1)}
    return {"type": kind, "conditions": [_rule(rng, after, depth - 1) for _ in range(rng.randint(1, 3))]}


def _changed(rng: Random, before: WorkflowPlan) -> WorkflowPlan:
    """The next generation of a workflow: the same, with a task more, or with tasks that depend on others."""
    kind = rng.choice(["same", "more", "other"])
    if kind == "same":
        return before
    last = before.tasks[-1]
    more = TaskPlan("t-new", (last.id,))
    if kind == "more":
        return WorkflowPlan(before.name, (*before.tasks, more), before.timeout)
    return WorkflowPlan(before.name, (*before.tasks[:-1], TaskPlan(last.id, last.after[1:])), before.timeout)


def _ask(rng: Random, places: int, seconds: float, workflows: tuple[WorkflowPlan, ...], number: int) -> Ask:
    key = f"{rng.choice(['once', 'again'])}-{number}" if rng.random() < 0.4 else None
    return Ask(
        round(rng.uniform(0.05, seconds), 3),
        rng.randrange(places),
        rng.choice(workflows).name,
        flag=rng.random() < 0.5,
        key=key,
        many=rng.randint(1, 20) if key is None and rng.random() < 0.15 else 0,
        wait=rng.random() < 0.7,
    )


def _blow(rng: Random, places: int, seconds: float, generations: int) -> Blow:
    return Blow(
        round(rng.uniform(0.0, 1.2 * seconds), 3),
        rng.randrange(places),
        rng.choice(KINDS),
        seconds=rng.choice([0.01, 0.3, 1.0, 3.0, 9.0]),
        steps=rng.choice([0, 1, 3, 10, 40, 200]),
        generation=rng.randrange(generations) if generations > 1 and rng.random() < 0.7 else None,
    )
