"""The workflows of a plan, whose bodies do what the plan says and tell the referee."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import ContextVar

from cloacina import Context, PermanentError, RetryPolicy, TaskHandle, TransientError, Workflow
from cloacina.model.rules import condition_from_json
from simulation.loop import START, here
from simulation.plan import TaskPlan, WorkflowPlan
from simulation.referee import Referee

TIME_LIMIT = 1.0
"""Seconds that an attempt of a task may take whose body hangs."""

referees: ContextVar[Referee] = ContextVar("referees")
"""The referee of the play that a body is in."""


def built(plan: WorkflowPlan) -> Workflow:
    """The workflow that ``plan`` describes."""
    workflow = Workflow(plan.name, timeout=plan.timeout)
    for task in plan.tasks:
        rule = {} if task.rule is None else {"trigger_rules": condition_from_json(task.rule)}
        workflow.task(
            _body(task, workflow),
            id=task.id,
            dependencies=task.after,
            retry=RetryPolicy(
                max_attempts=task.attempts, initial_delay=task.delay, backoff="fixed", jitter=0.25
            ),
            timeout=TIME_LIMIT if task.how in ("hang", "cling") else None,
            optional=task.optional,
            recovers=task.recovers,
            **rule,  # type: ignore[arg-type]
        )
    return workflow.validate()


def _body(task: TaskPlan, workflow: Workflow) -> Callable[[Context, TaskHandle], Awaitable[None]]:
    async def body(ctx: Context, handle: TaskHandle) -> None:
        referee, process = referees.get(), here.get()
        assert process is not None
        me = (handle.execution, handle.task, handle.attempt)
        referee.begins(process, *me)
        referee.conduct.begins(*me, workflow, ctx.to_dict())
        inside = True
        try:
            if task.waits:
                referee.leaves(process, *me)
                inside = False
                await _wait(task, handle)
                inside = True
                referee.enters(process, *me)
            failed = referee.failures(handle.execution, handle.task)
            if task.seconds:
                await asyncio.sleep(task.seconds)
            if task.notes:
                await ctx.checkpoint("note", _note)
            if task.how == "give up":
                raise PermanentError("as planned")
            if failed < task.failures:
                if task.how in ("hang", "cling"):
                    await asyncio.sleep(1e6)
                raise TransientError("as planned")
            _write(ctx, task.id)
            referee.returns(*me)
        except asyncio.CancelledError:
            if task.how == "cling":
                inside = False
                referee.leaves(process, *me)
                await asyncio.sleep(5 * TIME_LIMIT)
            raise
        finally:
            if inside:
                referee.leaves(process, *me)

    return body


async def _wait(task: TaskPlan, handle: TaskHandle) -> None:
    loop = asyncio.get_running_loop()
    await handle.defer_until(lambda: loop.time() >= START + task.waits, 0.5)


def _note() -> int:
    return 1


def _write(ctx: Context, task: str) -> None:
    ctx[f"did {task}"] = True
    ctx["log"] = [*ctx.get("log", []), task]
    ctx["tree"] = {**ctx.get("tree", {}), task: 1}
    ctx["last"] = task


def written(input: dict[str, object], completed: list[str]) -> dict[str, object]:
    """The context that an execution ends with when these tasks have completed, in canonical order."""
    context = dict(input)
    for task in completed:
        context[f"did {task}"] = True
    if completed:
        context |= {"log": completed, "tree": dict.fromkeys(completed, 1), "last": completed[-1]}
    return context
