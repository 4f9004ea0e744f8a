"""The final verdict: what must hold when everything is over and every runner has been shut down."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from cloacina.model.status import Reason
from simulation.bodies import written
from simulation.referee import last_states
from support.rows import AttemptRow, ExecutionRow
from unit.logic.oracle import Dag, Oracle, Task

if TYPE_CHECKING:
    from simulation.play import Play

LEFT_ALIVE = (
    "logged: the runner could not be stored as stopped; others will find it dead: %s",
    "logged: the engine stops: %s",
)
ENDED_EARLY = {Reason.CANCELLED, Reason.EXECUTION_TIMEOUT}


def final_verdict(play: Play) -> None:
    """Tell ``play`` of every promise that was not kept."""
    referee = play.referee
    alive = [runner for runner in referee.runners.values() if runner.state == "alive"]
    if len(alive) > sum(
        play.report.situations[name] for name in LEFT_ALIVE
    ):  # nobody is left to find them dead
        play.broken(f"still alive: {alive}")
    if referee.commands:
        play.broken(f"commands are left over: {list(referee.commands.values())}")
    for process, running in play.referee.bodies.items():
        if not process.dead and running.total():
            play.broken(f"bodies still run in {process}: {running}")
    for row in referee.executions.values():
        if row.owner is not None:
            play.broken(f"{row} still has an owner")
        _judge(play, row)
    _count_asks(play)


def _count_asks(play: Play) -> None:
    asked: dict[int, set[str]] = {}
    for row in play.referee.executions.values():
        if row.forked_from is None:
            asked.setdefault(json.loads(row.input)["ask"], set()).add(row.id)
    for number, ids in asked.items():
        most = play.plan.asks[number].many or 1
        if len(ids) > most:
            play.broken(f"ask {number} made {len(ids)} executions: {ids}")
    for number, acknowledged in play.acknowledged.items():
        if set(acknowledged) != asked.get(number):
            play.broken(f"ask {number} was acknowledged as {acknowledged}, and there are {asked.get(number)}")


def _judge(play: Play, row: ExecutionRow) -> None:
    """Compare how an execution ended with what the rules say, by the oracle of the unit tests."""
    tasks = play.referee.tasks[row.id]
    workflow = play.referee.workflows[row.workflow, row.version]
    dag = workflow.dag
    if row.status == "parked":
        if not (row.parked_for or row.error):
            play.broken(f"{row} is parked, and nothing says why")
        return
    if not row.over:
        play.broken(f"{row} has not ended: {tasks}")
        return
    last = last_states(tasks, dag.ids)
    for id, one in last.items():
        rows = tasks[id]
        if [r.attempt for r in rows] not in ([0], list(range(1, len(rows) + 1))):
            play.broken(f"the attempts of {id} are not numbered from 1: {rows}")
        if any(r.task_over for r in rows[:-1]):
            play.broken(f"{id} went on after it had ended: {rows}")
        if one.state in ("running", "deferred", "interrupted"):
            play.broken(f"{row} has ended, and {one} has not")
    completed = [id for id in dag.ids if last[id].state == "completed"]
    context = json.loads(row.result or "null")
    wanted = written(json.loads(row.input), completed)
    if context != wanted and row.status != "cancelled":
        play.broken(f"{row} should have the context {wanted}: {last}")
    if row.status == "cancelled" or any(one.reason in ENDED_EARLY for one in last.values()):
        return
    _compare(play, row, last)


def _compare(play: Play, row: ExecutionRow, last: dict[str, AttemptRow]) -> None:
    workflow = play.referee.workflows[row.workflow, row.version]
    tasks = [
        Task(task.id, task.dependencies, task.rule, task.optional, task.recovers)
        for task in workflow.dag.tasks
    ]
    failed = frozenset(id for id, one in last.items() if one.task_state == "failed")
    context = {"flag": json.loads(row.input)["flag"]}
    oracle = Oracle(Dag(tasks), failed, context)
    for id, one in last.items():
        if one.task_state != oracle.state[id] or (one.reason or None) != oracle.reason.get(id, one.reason):
            play.broken(f"{row}: {id} should be {oracle.state[id]} ({oracle.reason.get(id)}): {last}")
    status, _ = oracle.outcome()
    if row.status != status:
        play.broken(f"{row} should be {status}: {last}")
    for id in failed if row.id not in play.referee.adopted else ():
        _check_failure(play, row, id)


def _check_failure(play: Play, row: ExecutionRow, id: str) -> None:
    """A task fails only when its attempts are used up, or for a reason that allows no other."""
    workflow = play.referee.workflows[row.workflow, row.version]
    rows = play.referee.tasks[row.id][id]
    failures = sum(one.failure for one in rows)
    policy = workflow.policies[workflow.dag.index[id]]
    final = rows[-1]
    for_good = any(name in (final.error or "") for name in ("PermanentError", "StoreRefused"))
    if failures < policy.max_attempts and final.reason is None and not for_good:
        play.broken(f"{id} of {row} failed after {failures} failures of {policy.max_attempts}: {rows}")
