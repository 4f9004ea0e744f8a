"""Tasks that crash their process: suspects run alone, and what crashes again and again is given up."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from cloacina.model.context.context import Context
from cloacina.model.status import AttemptState, ExecutionStatus, Reason, RunnerState, TaskState
from cloacina.model.task import task
from cloacina.model.workflow import Workflow
from cloacina.runner import Runner
from cloacina.store.port import WriteStore
from cloacina.store.rows import AttemptStart, ClaimRequest, Group, Item, NewExecution, Progress, RunnerRow
from support.clock import turn
from support.runners import Gate, outside, runner_on, seen_outside

COMPLETED, FAILED = ExecutionStatus.COMPLETED, ExecutionStatus.FAILED
CRASH, SHUTDOWN, LOST = Reason.CRASH, Reason.SHUTDOWN, Reason.LOST_LEASE
_ids = count(1)


def submit(path: Path, workflow: Workflow, *ids: str) -> None:
    """Store executions that nobody owns."""
    rows = [
        NewExecution(
            id, workflow.name, workflow.version, ExecutionStatus.PENDING, "{}", None, 0, "[]", None, 1, None
        )
        for id in ids
    ]
    outside(path, lambda store: store.insert_unowned(rows))


def live(path: Path, workflow: Workflow, end: Reason, *tasks: tuple[str, str], suspect: bool = False) -> None:
    """A runner that claims, starts an attempt of each ``(execution, task)``, and ends as ``end`` says."""
    me = f"former-{next(_ids)}"

    def story(store: WriteStore) -> None:
        store.register_runner(RunnerRow(me, "host", 1, 1, RunnerState.ALIVE, 0))
        claim = ClaimRequest(((workflow.name, workflow.version),), 100, 10)
        owned = {row.id: row for row in store.commit(Group(me, 1, (), claim))}
        items = []
        for id, name in tasks:
            number = max((row.attempt for row in owned[id].attempts if row.task == name), default=0) + 1
            start = AttemptStart(id, name, number, me, 5, int(suspect))
            progress = Progress(id, me, ExecutionStatus.RUNNING, me, started=5)
            items.append(Item(id, starts=[start], progress=progress))
        store.commit(Group(me, 2, tuple(items)))
        store.recover(me, end, 6)

    outside(path, story)


def prepare(path: Path, workflow: Workflow, *ids: str, lives: Sequence[tuple[Reason, bool]]) -> None:
    """Executions whose task ``it`` was cut by each of the ``lives``: how each ended, and if it was a suspect."""
    submit(path, workflow, *ids)
    for end, suspect in lives:
        live(path, workflow, end, *((id, "it") for id in ids), suspect=suspect)


def one(body: Any, **options: Any) -> Workflow:
    return Workflow("one", [task(body, id="it", **{"retry": False, **options})])


def suspects(path: Path, id: str) -> list[int]:
    stored = seen_outside(path, lambda store: store.execution(id))
    assert stored is not None
    return [row.suspect for row in stored.attempts]


@pytest.mark.parametrize(
    ("lives", "suspect"),
    [
        ([], False),
        ([(CRASH, False)], False),
        ([(CRASH, False)] * 2, True),
        ([(CRASH, False), (SHUTDOWN, False)], False),
        ([(CRASH, False), (SHUTDOWN, False), (CRASH, False)], True),
        ([(SHUTDOWN, False)] * 5, False),
        ([(LOST, False)] * 5, False),
        ([(CRASH, False)] * 2 + [(SHUTDOWN, True)] * 5, True),
        ([(CRASH, False)] * 2 + [(CRASH, True)] * 2, True),
        ([(CRASH, False)] * 9, True),
    ],
)
async def test_who_is_a_suspect(tmp_path: Path, lives: list[tuple[Reason, bool]], suspect: bool) -> None:
    gate, path = Gate(), tmp_path / "c.db"
    gate.open()
    workflow = one(gate.pass_through)
    prepare(path, workflow, "e", lives=lives)
    async with runner_on(path, workflow) as runner:
        result = await runner.result("e", timeout=20)
    assert (result.status, result.tasks["it"].attempts) == (COMPLETED, len(lives) + 1)
    assert suspects(path, "e") == [*(int(was) for _, was in lives), int(suspect)]


@pytest.mark.parametrize("cap", [1, 3])
async def test_only_crashes_of_a_suspect_count_and_at_the_cap_it_is_given_up(
    tmp_path: Path, cap: int
) -> None:
    gate, path = Gate(), tmp_path / "c.db"
    workflow = Workflow(
        "one", [task(gate.pass_through, id="it"), task(gate.pass_through, id="b", dependencies=["it"])]
    )
    lives = (
        [(CRASH, False)] * 4 + [(CRASH, True), (SHUTDOWN, True), (LOST, True)] + [(CRASH, True)] * (cap - 1)
    )
    prepare(path, workflow, "e", lives=lives)
    async with runner_on(path, workflow, crash_cap=cap) as runner:
        result = await runner.result("e", timeout=20)
        again = await runner.get("e")
    it = result.tasks["it"]
    assert (result.status, it.state, it.reason, gate.entered) == (
        FAILED,
        TaskState.FAILED,
        Reason.POISONED,
        0,
    )
    assert (it.attempts, it.history[-1].number, it.history[-1].started) == (len(lives), len(lives) + 1, None)
    assert it.error is not None
    assert it.error.message == (
        f"task 'it' crashed its process {cap} times while no other suspect ran; it is not tried again"
    )
    assert result.tasks["b"].reason is Reason.DEPENDENCY_FAILED
    assert again == result


async def test_crashes_below_the_cap_do_not_fail_a_task_without_retries(tmp_path: Path) -> None:
    gate, path = Gate(), tmp_path / "c.db"
    gate.open()
    workflow = one(gate.pass_through)
    prepare(path, workflow, "e", lives=[(CRASH, False)] * 2 + [(CRASH, True)] * 2)
    async with runner_on(path, workflow) as runner:
        assert (await runner.result("e", timeout=20)).status is COMPLETED


async def test_a_completed_attempt_ends_a_row_of_crashes(tmp_path: Path) -> None:
    """The first task crashed twice and then completed: the second one is no suspect for that."""
    gate, path = Gate(), tmp_path / "c.db"
    gate.open()
    workflow = Workflow(
        "one", [task(gate.pass_through, id="it"), task(gate.pass_through, id="b", dependencies=["it"])]
    )
    prepare(path, workflow, "e", lives=[(CRASH, False)] * 2)
    async with runner_on(path, workflow) as runner:
        assert (await runner.result("e", timeout=20)).status is COMPLETED
    assert suspects(path, "e") == [0, 0, 0, 1]


async def test_suspects_run_one_at_a_time_and_others_beside_them(tmp_path: Path) -> None:
    path, now, most = tmp_path / "c.db", set[str](), list[int]()
    gates = {f"e{n}": Gate() for n in range(3)}

    async def body(ctx: Context) -> None:
        (id,) = [id for id in gates if gates[id].entered == 0 and not (now & {id})][:1]
        now.add(id)
        most.append(len(now))
        await gates[id].pass_through(ctx)
        now.discard(id)

    workflow = one(body)
    prepare(path, workflow, *gates, lives=[(CRASH, False)] * 2)
    ordinary = Gate()
    ordinary.open()
    async with runner_on(path, workflow) as runner:
        for n, gate in enumerate(gates.values()):
            await gate.reached()
            plain = Workflow("plain", [task(ordinary.pass_through, id="it")])
            assert (await runner.execute(plain)).status is COMPLETED
            await turn()
            assert sum(gate.entered for gate in gates.values()) == n + 1
            reasons = [
                (await runner.explain(id)).tasks.get("it", "") for id in gates if not gates[id].entered
            ]
            told = "ready; it crashed its process before, and waits until no other such task runs"
            assert {*reasons} <= {told}
            gate.open()
        for id in gates:
            assert (await runner.result(id, timeout=20)).status is COMPLETED
    assert most == [1, 1, 1]


async def test_a_poison_task_is_isolated_while_others_finish(tmp_path: Path) -> None:
    gate, path = Gate(), tmp_path / "c.db"
    gate.open()
    workflow = one(gate.pass_through)
    submit(path, workflow, "poison", *(f"good{n}" for n in range(20)))
    everybody = [("poison", "it"), *((f"good{n}", "it") for n in range(20))]
    for _ in range(2):
        live(path, workflow, CRASH, *everybody)
    for _ in range(3):
        live(path, workflow, CRASH, ("poison", "it"), suspect=True)
    async with runner_on(path, workflow) as runner:
        results = [await runner.result(id, timeout=20) for id, _ in everybody]
    assert [result.status for result in results] == [FAILED, *[COMPLETED] * 20]
    assert gate.entered == 20


async def test_a_suspect_whose_child_is_a_suspect_too_does_not_wait_for_ever(tmp_path: Path) -> None:
    gate, path, runners = Gate(), tmp_path / "c.db", list[Runner]()
    gate.open()
    child = Workflow("child", [task(gate.pass_through, id="it")])

    async def body(ctx: Context) -> None:
        ctx["child"] = (await runners[0].execute(child, key="child")).status

    parent = one(body)
    prepare(path, parent, "parent", lives=[(CRASH, False)] * 2)
    row = NewExecution(
        "child", "child", child.version, ExecutionStatus.PENDING, "{}", "child", 0, "[]", None, 1, None
    )
    outside(path, lambda store: store.insert_unowned([row]))
    for _ in range(2):
        live(path, child, CRASH, ("child", "it"))
    async with runner_on(path, parent, child, async_slots=1) as runner:
        runners.append(runner)
        result = await asyncio.wait_for(runner.result("parent"), 20)
    assert (result.status, result.context["child"]) == (COMPLETED, "completed")
    assert suspects(path, "parent")[-1] == suspects(path, "child")[-1] == 1


async def test_interrupted_attempts_are_told(tmp_path: Path) -> None:
    gate, path = Gate(), tmp_path / "c.db"
    gate.open()
    workflow = one(gate.pass_through)
    prepare(path, workflow, "e", lives=[(CRASH, False), (SHUTDOWN, False), (LOST, False)])
    async with runner_on(path, workflow) as runner:
        result = await runner.result("e", timeout=20)
    assert [(attempt.state, attempt.reason) for attempt in result.tasks["it"].history] == [
        (AttemptState.INTERRUPTED, CRASH),
        (AttemptState.INTERRUPTED, SHUTDOWN),
        (AttemptState.INTERRUPTED, LOST),
        (AttemptState.COMPLETED, None),
    ]
    assert result.started is not None and result.started.timestamp() == pytest.approx(5e-6)
