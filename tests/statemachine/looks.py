"""A look through the public API at everything: what it tells is what the model says."""

from __future__ import annotations

from typing import Any

from cloacina.model.status import TaskState
from statemachine.compare import same_states
from statemachine.model import ExecutionModel
from statemachine.world import World


async def look_through(desk: Any, world: World) -> None:
    """Ask ``desk`` for everything that there is."""
    infos = await desk.list()
    assert [info.id for info in infos] == sorted(world.executions, reverse=True)
    for info in infos:
        one = world.executions[info.id]
        result = await desk.get(one.id)
        assert result.status == info.status == one.shown_status(), f"{result} and {info}: {one}"
        states = {id: task.state for id, task in result.tasks.items()}
        assert list(states.items()) == list(same_states(one).items()), f"{states} of {one}"
        for id, task in one.tasks.items():
            told = [(row.number, row.state, row.reason) for row in result.tasks[id].history]
            assert told == [(row.number, row.state, row.reason) for row in task.rows], f"{told} of {one}"
            assert result.tasks[id].attempts == sum(
                row.started is not None for row in result.tasks[id].history
            )
        expected = one.context
        assert result.context.to_dict() == expected, (
            f"{result.context.to_dict()}, and not {expected}, of {one}"
        )
        if not one.over:
            check_reasons(await desk.explain(one.id), one, world)


def check_reasons(explanation: Any, one: ExecutionModel, world: World) -> None:
    """Everything that has not ended has a reason, and what waits for others says for whom."""
    assert explanation.reason and explanation.status == one.shown_status()
    assert set(explanation.tasks) == {id for id, task in one.tasks.items() if not task.ended}, explanation
    for id, why in explanation.tasks.items():
        task, shape = one.tasks[id], one.shape.task(id)
        assert shape is not None
        open_ones = [
            other.id
            for other in one.shape.order
            if other.id in shape.dependencies and not one.tasks[other.id].ended
        ]
        if one.parked:
            wanted = "its execution was set aside"
        elif task.deferred:
            wanted = f"attempt {task.rows[-1].number} is deferred"
        elif task.state is TaskState.RUNNING:
            wanted = f"attempt {task.rows[-1].number} has run since"
        elif task.due is not None:
            wanted = f"attempt {task.rows[-1].number} failed"
        elif open_ones:
            wanted = f"waits for {', '.join(open_ones)}"
        else:
            wanted = "ready"
        assert why.startswith(wanted), f"{id}: {why}, and should be {wanted}: {one}"
