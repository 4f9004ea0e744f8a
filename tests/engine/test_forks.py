"""Retry and fork: a new execution that does some tasks again and has the rest from the old one."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypedDict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloacina.blocking import BlockingRunner
from cloacina.client import Client
from cloacina.clock import SystemClock
from cloacina.errors import (
    ContextError,
    ExecutionNotFound,
    ForkRefused,
    InputError,
    QueueFull,
    StoreUnavailable,
    ValidationError,
)
from cloacina.model.context.context import Context
from cloacina.model.result import ExecutionResult
from cloacina.model.retry import RetryPolicy
from cloacina.model.rules import task_failed
from cloacina.model.status import AttemptState, ExecutionStatus, Reason, TaskState
from cloacina.model.task import Task, task
from cloacina.model.workflow import Workflow
from support.clock import HandClock
from support.runners import Gate, by_hand, crashing, in_memory, runner_on
from support.stores import interfere, unsure

COMPLETED, FAILED, CANCELLED = ExecutionStatus.COMPLETED, ExecutionStatus.FAILED, ExecutionStatus.CANCELLED
PENDING = ExecutionStatus.PENDING
TWICE = RetryPolicy(max_attempts=2, initial_delay=0, jitter=0)


class Shop:
    """reserve → charge → (ship, alert if charging failed), thank; ``ill`` has the tasks that fail."""

    def __init__(self, *ill: str) -> None:
        self.ill = set(ill)
        self.runs: Counter[str] = Counter()
        self.gate = Gate()
        self.gate.open()

    def body(self, name: str) -> Callable[[Context], Any]:
        async def body(ctx: Context) -> None:
            self.runs[name] += 1
            await self.gate.pass_through(ctx)
            if name in self.ill:
                raise ValueError(f"{name} is ill")
            ctx[name] = self.runs[name]
            ctx.setdefault("trail", []).append(name)

        return body

    def workflow(self, **options: Any) -> Workflow:
        def made(name: str, *after: str, **options: Any) -> Task:
            return task(self.body(name), id=name, dependencies=after, **options)

        return Workflow(
            "shop",
            [
                made("reserve"),
                made("charge", "reserve"),
                made("ship", "charge"),
                made("alert", "charge", trigger_rules=task_failed("charge")),
                made("thank", "reserve"),
            ],
            **{"retry": TWICE, **options},
        )


async def wait(runner: Any, id: str) -> ExecutionResult:
    result: ExecutionResult = await runner.result(id, timeout=20)
    return result


def states(result: ExecutionResult) -> dict[str, str]:
    return {id: str(one.state) for id, one in result.tasks.items()}


# Retry.


async def test_a_retry_does_what_failed_and_keeps_the_rest() -> None:
    shop = Shop("charge")
    async with in_memory(shop.workflow()) as runner:
        old = await runner.execute("shop", {"n": 1}, tags=["x"], priority=3, key="once")
        assert (old.status, shop.runs["charge"], shop.runs["alert"]) == (FAILED, 2, 1)
        shop.ill.clear()
        handle = await runner.retry(old.id)
        new = await handle.result(timeout=20)
        assert shop.runs == Counter(reserve=1, charge=3, ship=1, alert=1, thank=1)
        assert new.status is COMPLETED and new.id == handle.id != old.id
        assert states(new) == {
            "reserve": "completed",
            "charge": "completed",
            "ship": "completed",
            "alert": "skipped",
            "thank": "completed",
        }
        assert new.context.to_dict() == {
            "n": 1, "reserve": 1, "trail": ["reserve", "charge", "ship", "thank"],
            "charge": 3, "ship": 1, "thank": 1,
        }  # fmt: skip
        assert (await runner.get(old.id)).status is FAILED, "the old one stays"
        (listed,) = await runner.list(tag="x", status=COMPLETED)
        assert (listed.id, listed.forked_from, listed.priority, listed.key) == (new.id, old.id, 3, None)
        assert new.forked_from == old.id and old.forked_from is None


async def test_what_is_copied_keeps_its_times_and_attempts() -> None:
    shop, clock, second = Shop("charge"), HandClock(), Gate()
    shop.ill.add("reserve")
    shop.gate = first = Gate()
    async with in_memory(shop.workflow(), clock=clock) as runner:
        handle = await runner.submit("shop")
        await first.reached()
        shop.gate = second
        first.open()
        await second.reached()
        shop.ill.discard("reserve")
        second.open()
        old = await wait(runner, handle.id)
        assert old.tasks["reserve"].attempts == 2
        clock.advance(100)
        shop.ill.clear()
        fork = await runner.retry(old.id)
        new = await wait(runner, fork.id)
        stored = await runner.get(fork.id)
    assert new.tasks["reserve"] == old.tasks["reserve"]
    assert [one.number for one in new.tasks["charge"].history] == [1], "attempts begin anew"
    assert new.started is not None and old.finished is not None and new.started > old.finished
    assert new.created > old.created
    assert stored == new and {id: one.history for id, one in stored.tasks.items()} == {
        id: one.history for id, one in new.tasks.items()
    }


async def test_a_fork_that_nobody_has_claimed_yet() -> None:
    shop = Shop("charge")
    async with in_memory(shop.workflow(), window=1) as runner:
        old = await runner.execute("shop")
        shop.ill.clear()
        shop.gate = Gate()
        busy = await runner.submit("shop")
        await shop.gate.reached()
        fork = await runner.retry(old.id)
        waiting = await runner.get(fork.id)
        assert (waiting.status, waiting.started, waiting.tasks["thank"].state) == (
            PENDING,
            None,
            TaskState.COMPLETED,
        )
        assert (await runner.explain(fork.id)).tasks["charge"] == "ready; nobody drives the execution"
        shop.gate.open()
        assert (await wait(runner, fork.id)).status is COMPLETED
        await busy.result(timeout=20)


async def test_a_fork_can_fail_and_be_retried_again() -> None:
    shop = Shop("charge")
    async with in_memory(shop.workflow()) as runner:
        ids = [(await runner.execute("shop")).id]
        for _ in range(3):
            ids.append((await runner.retry(ids[-1])).id)
            assert (await wait(runner, ids[-1])).status is FAILED
        shop.ill.clear()
        last = await wait(runner, (await runner.retry(ids[-1])).id)
        assert last.status is COMPLETED and last.forked_from == ids[-1]
        assert shop.runs["reserve"] == 1 and shop.runs["charge"] == 9


async def test_what_was_cancelled_goes_on() -> None:
    shop = Shop()
    shop.gate = Gate()
    async with in_memory(shop.workflow()) as runner:
        handle = await runner.submit("shop")
        await shop.gate.reached()
        assert await handle.cancel() is CANCELLED
        shop.gate.open()
        fork = await handle.retry()
        result = await fork.result(timeout=20)
        assert result.status is COMPLETED and shop.runs["reserve"] == 2
        assert result.tasks["reserve"].history[0].number == 1


async def test_a_pending_one_that_was_cancelled_has_nothing_to_copy() -> None:
    shop = Shop()
    shop.gate = Gate()
    async with in_memory(shop.workflow(), window=1) as runner:
        await runner.submit("shop")
        await shop.gate.reached()
        handle = await runner.submit("shop", {"n": 5})
        await handle.cancel()
        shop.gate.open()
        result = await (await handle.retry()).result(timeout=20)
        assert result.status is COMPLETED and result.context["n"] == 5


async def test_the_timeout_of_the_workflow_begins_anew() -> None:
    shop, clock = Shop(), HandClock()
    async with in_memory(shop.workflow(timeout=10), clock=clock) as runner:
        shop.gate = Gate()
        handle = await runner.submit("shop")
        await shop.gate.reached()
        clock.advance(11)
        old = await wait(runner, handle.id)
        assert old.status is FAILED and old.tasks["charge"].reason is Reason.EXECUTION_TIMEOUT
        shop.gate = Gate()
        fork = await runner.retry(old.id)
        await shop.gate.reached()
        clock.advance(9)
        shop.gate.open()
        new = await wait(runner, fork.id)
        assert new.status is COMPLETED


async def test_a_fork_outlives_its_runner(tmp_path: Path) -> None:
    shop = Shop("charge")
    async with crashing(runner_on(tmp_path / "c.db", shop.workflow())) as runner:
        old = await runner.execute("shop")
        shop.ill.clear()
        shop.gate = Gate()
        fork = await runner.retry(old.id)
        await shop.gate.reached()
    shop.gate.open()
    async with runner_on(tmp_path / "c.db", shop.workflow()) as runner:
        result = await wait(runner, fork.id)
        assert result.status is COMPLETED
        assert [one.state for one in result.tasks["charge"].history] == [
            AttemptState.INTERRUPTED,
            AttemptState.COMPLETED,
        ]
        assert shop.runs["reserve"] == 1


async def test_an_insert_whose_answer_is_lost_makes_one_fork() -> None:
    shop = Shop("charge")
    async with in_memory(shop.workflow()) as runner:
        old = await runner.execute("shop")
        interfere(runner).plan(
            "insert_forks", unsure(StoreUnavailable("lost")), unsure(StoreUnavailable("lost"))
        )
        await wait(runner, (await runner.retry(old.id)).id)
        assert len(await runner.list()) == 2


async def test_the_bound_on_pending_work_holds_for_forks() -> None:
    shop = Shop("charge")
    async with in_memory(shop.workflow(), window=1, max_pending=1) as runner:
        old = await runner.execute("shop")
        shop.gate = Gate()
        await runner.submit("shop")
        await shop.gate.reached()
        await runner.retry(old.id)
        with pytest.raises(QueueFull):
            await runner.retry(old.id)
        assert len(await runner.list()) == 3
        shop.gate.open()


# What is refused.


async def test_only_what_has_ended_and_has_something_to_do() -> None:
    shop = Shop()
    async with in_memory(shop.workflow()) as runner:
        done = await runner.execute("shop")
        with pytest.raises(ForkRefused, match=r"completed with nothing to retry.*use fork\(id, from_task="):
            await runner.retry(done.id)
        shop.gate = Gate()
        handle = await runner.submit("shop")
        await shop.gate.reached()
        for attempt in (runner.retry(handle.id), runner.fork(handle.id)):
            with pytest.raises(
                ForkRefused, match="is running, and only one that has ended can be forked: wait"
            ):
                await attempt
        for unknown in ("nothing", 5, "ü"):
            with pytest.raises(ExecutionNotFound):
                await runner.retry(unknown)  # type: ignore[arg-type]
        assert len(await runner.list()) == 2
        shop.gate.open()


@pytest.mark.parametrize(
    ("options", "error", "told"),
    [
        ({"from_task": "shp"}, ForkRefused, "has no task 'shp'. Did you mean 'ship'?"),
        ({"from_task": 5}, ValidationError, "from_task=5 is no task"),
        ({"from_task": []}, ValidationError, "names no task"),
        ({"from_task": ["ship", None]}, ValidationError, "from_task=None is no task"),
        ({"replace": 5}, ValidationError, "replace=5 is no mapping"),
        ({"replace": {"n": float("nan")}}, ContextError, "n"),
        ({"replace": {5: 1}}, ContextError, "5"),
        ({"replace": {"n": "x" * 2_000_000}}, ContextError, "n"),
    ],
)
async def test_arguments_that_make_no_fork(options: Any, error: type[Exception], told: str) -> None:
    shop = Shop()
    async with in_memory(shop.workflow()) as runner:
        done = await runner.execute("shop")
        with pytest.raises(error) as caught:
            await runner.fork(done.id, **options)
        assert told in str(caught.value)
        assert len(await runner.list()) == 1


# Fork.


@pytest.mark.parametrize(
    ("from_task", "again"),
    [
        (None, "reserve charge ship thank"),
        ("charge", "charge ship"),
        (["ship", "thank"], "ship thank"),
        ("reserve", "reserve charge ship thank"),
        (Shop().workflow().tasks[2], "ship"),
    ],
)
async def test_a_fork_begins_where_it_is_told(from_task: Any, again: str) -> None:
    shop = Shop()
    async with in_memory(shop.workflow()) as runner:
        done = await runner.execute("shop")
        result = await wait(runner, (await runner.fork(done.id, from_task=from_task)).id)
    assert result.status is COMPLETED
    assert {name for name, runs in shop.runs.items() if runs == 2} == set(again.split())


async def test_what_is_replaced_is_seen_by_all_that_runs_and_not_overwritten_by_what_is_copied() -> None:
    seen: list[dict[str, Any]] = []

    async def first(ctx: Context) -> None:
        ctx["a"] = 1
        ctx["b"] = {"x": 1}
        ctx["list"].append(1)
        ctx["kept"] = True

    async def last(ctx: Context) -> None:
        seen.append(ctx.to_dict())

    tasks = [task(first, id="first"), task(last, id="last", dependencies=["first"])]
    async with in_memory(Workflow("w", tasks)) as runner:
        done = await runner.execute("w", {"list": [0], "a": 0})
        replace = {"a": 7, "b": {"y": 2}, "list": [5], "new": None}
        result = await wait(runner, (await runner.fork(done.id, from_task="last", replace=replace)).id)
        old = await runner.get(done.id)
    assert (
        seen[1] == {"a": 7, "b": {"y": 2}, "list": [5], "new": None, "kept": True} == result.context.to_dict()
    )
    assert old.context["a"] == 1 and old.context["list"] == [0, 1]


async def test_replacing_alone_does_all_of_it_again() -> None:
    shop = Shop()
    async with in_memory(shop.workflow()) as runner:
        done = await runner.execute("shop", {"n": 1})
        result = await wait(runner, (await runner.fork(done.id, replace={"n": 2, "reserve": 0})).id)
    assert result.context["n"] == 2 and result.context["reserve"] == 2
    assert shop.runs["thank"] == 2


async def test_a_fork_keeps_failures_but_not_what_was_cut_short() -> None:
    shop = Shop("charge")
    async with in_memory(shop.workflow()) as runner:
        old = await runner.execute("shop")
        result = await wait(runner, (await runner.fork(old.id, from_task="thank")).id)
        assert result.status is FAILED and shop.runs["charge"] == 2, "it was not asked to do that again"
        shop.gate = Gate()
        handle = await runner.submit("shop")
        await shop.gate.reached()
        await handle.cancel()
        shop.gate.open()
        shop.ill.clear()
        result = await wait(runner, (await runner.fork(handle.id, from_task="ship")).id)
        assert result.status is COMPLETED


class Order(TypedDict):
    n: int


async def test_what_is_replaced_must_fit_the_model_of_the_input() -> None:
    async def body(ctx: Context) -> None:
        ctx["seen"] = ctx["n"]

    workflow = Workflow("w", [task(body, id="it")], inputs=Order)
    async with in_memory(workflow) as runner:
        done = await runner.execute("w", {"n": 1})
        with pytest.raises(InputError, match="the input of workflow 'w', with what replace= says"):
            await runner.fork(done.id, replace={"n": "many"})
        result = await wait(runner, (await runner.fork(done.id, replace={"n": 2})).id)
        assert result.context["seen"] == 2


# Checkpoints.


class Payment:
    """Bodies with checkpoints, which count what they really do."""

    def __init__(self) -> None:
        self.charged = 0
        self.told = 0
        self.ill = True

    def workflow(self, edition: int = 1) -> Workflow:
        async def charge(ctx: Context) -> None:
            async def really() -> int:
                self.charged += 1
                return self.charged

            ctx["receipt"] = await ctx.checkpoint("charge", really)
            if self.ill:
                raise ValueError(f"after the charge, edition {edition}")

        async def tell(ctx: Context) -> None:
            async def really() -> int:
                self.told += 1
                return self.told

            ctx["told"] = await ctx.checkpoint("tell", really)

        failed = task_failed("charge")
        return Workflow(
            "payment",
            [
                task(charge, id="charge", retry=False),
                task(tell, id="tell", dependencies=["charge"], trigger_rules=failed),
            ],
        )


async def test_a_retried_task_finds_its_checkpoints() -> None:
    payment = Payment()
    async with in_memory(payment.workflow()) as runner:
        old = await runner.execute("payment")
        again = await wait(runner, (await runner.retry(old.id)).id)
        assert (again.status, payment.charged) == (FAILED, 1)
        assert payment.told == 2, "it had completed, so it was done anew"
        payment.ill = False
        result = await wait(runner, (await runner.retry(again.id)).id)
        assert (result.status, result.context["receipt"], payment.charged) == (COMPLETED, 1, 1)


async def test_a_fork_begins_without_checkpoints() -> None:
    payment = Payment()
    async with in_memory(payment.workflow()) as runner:
        old = await runner.execute("payment")
        await wait(runner, (await runner.fork(old.id, from_task="charge")).id)
        assert payment.charged == 2


@pytest.mark.parametrize(("edition", "charged"), [(1, 1), (2, 2)])
async def test_checkpoints_of_other_code_are_left_behind(tmp_path: Path, edition: int, charged: int) -> None:
    payment = Payment()
    async with runner_on(tmp_path / "c.db", payment.workflow()) as runner:
        old = await runner.execute("payment")
    payment.ill = False
    async with runner_on(tmp_path / "c.db", payment.workflow(edition)) as runner:
        result = await wait(runner, (await runner.retry(old.id)).id)
        assert (result.status, payment.charged) == (COMPLETED, charged)


# Versions.


def chain(edition: int, last: Callable[[Context], Any], *more: Task, **options: Any) -> Workflow:
    async def first(ctx: Context) -> None:
        ctx["first"] = edition

    return Workflow(
        "chain",
        [task(first, id="first"), task(last, id="last", dependencies=["first"], retry=False), *more],
        **options,
    )


async def ill(ctx: Context) -> None:
    raise ValueError("no")


async def well(ctx: Context) -> None:
    ctx["last"] = ctx["first"]


async def old_one(path: Path, workflow: Workflow) -> str:
    async with runner_on(path, workflow) as runner:
        return (await runner.execute(workflow)).id


async def test_a_retry_runs_on_the_version_that_the_runner_has(tmp_path: Path) -> None:
    id = await old_one(tmp_path / "c.db", chain(1, ill))
    more = task(well, id="more", dependencies=["last"])
    async with runner_on(tmp_path / "c.db", chain(2, well, more)) as runner:
        result = await wait(runner, (await runner.retry(id)).id)
    assert (result.status, result.context.to_dict()) == (COMPLETED, {"first": 1, "last": 1})
    assert list(result.tasks) == ["first", "last", "more"] and result.version == chain(2, well, more).version


CHANGED: dict[str, tuple[Callable[[], Workflow], str | None]] = {
    "what failed has other dependencies": (
        lambda: Workflow("chain", [task(well, id="first"), task(well, id="last")]), None,
    ),
    "what is copied is gone": (lambda: Workflow("chain", [task(well, id="last")]), "first is gone"),
    "what is copied has a dependency": (
        lambda: Workflow("chain", [task(well, id="x"), task(well, id="first", dependencies=["x"])]),
        "first depends on x instead of nothing",
    ),
    "pinned": (lambda: chain(2, well, on_version="pin"), 'on_version="pin"'),
    "what is copied is gone, whatever is possible": (
        lambda: Workflow("chain", [task(well, id="last")], on_version="adopt"), "first is gone",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("workflow", "why"), CHANGED.values(), ids=CHANGED)
async def test_a_version_must_agree_about_what_is_copied(
    tmp_path: Path, workflow: Callable[[], Workflow], why: str | None
) -> None:
    id = await old_one(tmp_path / "c.db", chain(1, ill))
    async with runner_on(tmp_path / "c.db", workflow()) as runner:
        if why is None:
            await runner.retry(id)
            return
        with pytest.raises(ForkRefused) as caught:
            await runner.retry(id)
        assert why in str(caught.value) and "use fork(id) to do all of it again" in str(caught.value)
        assert len(await runner.list()) == 1
        await runner.fork(id)


async def test_a_task_of_the_new_version_alone_may_be_named(tmp_path: Path) -> None:
    id = await old_one(tmp_path / "c.db", chain(1, well))
    more = task(well, id="more", dependencies=["last"])
    async with runner_on(tmp_path / "c.db", chain(2, well, more)) as runner:
        result = await wait(runner, (await runner.fork(id, from_task="more")).id)
        assert (
            result.status is COMPLETED
            and result.tasks["last"].finished == (await runner.get(id)).tasks["last"].finished
        )


async def test_code_without_source_is_retried_if_somebody_asks(tmp_path: Path) -> None:
    def hidden(text: str) -> Workflow:
        namespace: dict[str, Any] = {}
        exec(f"async def last(ctx):\n    {text}", namespace)
        return chain(1, namespace["last"])

    assert hidden("pass").unversioned
    id = await old_one(tmp_path / "c.db", hidden("raise ValueError"))
    async with runner_on(tmp_path / "c.db", hidden("ctx['last'] = 1")) as runner:
        assert (await wait(runner, (await runner.retry(id)).id)).status is COMPLETED


async def test_a_history_that_nobody_can_understand(tmp_path: Path) -> None:
    path = tmp_path / "c.db"
    id = await old_one(path, chain(1, ill))

    def damage(text: str) -> None:
        by_hand(path, text)

    async with runner_on(path, chain(1, ill)) as runner:
        damage("UPDATE attempts SET task = 'stranger' WHERE task = 'first'")
        with pytest.raises(ForkRefused, match="has a history of 'stranger'"):
            await runner.retry(id)
    async with runner_on(path, chain(2, ill)) as runner:
        for dag, told in (
            ("{}", "cannot be read"),
            ('{"name": "c", "tasks": []}', "cannot be understood"),
        ):
            oldest = "SELECT min(registered) FROM workflow_versions"
            damage(f"UPDATE workflow_versions SET dag = '{dag}' WHERE registered = ({oldest})")
            with pytest.raises(ForkRefused, match=told):
                await runner.retry(id)
        damage("DELETE FROM workflow_versions")
        with pytest.raises(ForkRefused, match="nobody has registered version"):
            await runner.retry(id)


# Without the code.


async def test_a_client_retries_what_a_runner_then_does(tmp_path: Path) -> None:
    shop = Shop("charge")
    async with (
        runner_on(tmp_path / "c.db", shop.workflow(), clock=SystemClock()) as runner,
        Client(tmp_path / "c.db") as client,
    ):
        old = await runner.execute("shop", {"n": 1})
        shop.ill.clear()
        new = await (await client.retry(old.id)).result(timeout=20)
        assert (new.status, new.forked_from, new.context["n"]) == (COMPLETED, old.id, 1)
        replaced = await client.fork(old.id, from_task="thank", replace={"n": 2})
        assert (await replaced.result(timeout=20)).context["n"] == 2
        handle = await client.handle(old.id).retry()
        assert (await handle.result(timeout=20)).status is COMPLETED


async def test_a_body_may_retry(tmp_path: Path) -> None:
    shop, found = Shop("charge"), list[ExecutionStatus]()
    async with in_memory(shop.workflow()) as runner:
        old = await runner.execute("shop")
        shop.ill.clear()

        async def mend(ctx: Context) -> None:
            found.append((await (await runner.retry(old.id)).result()).status)

        assert (await runner.execute(Workflow("mend", [task(mend, id="mend")]))).status is COMPLETED
    assert found == [COMPLETED]


def test_the_blocking_twin(tmp_path: Path) -> None:
    shop = Shop("charge")
    with BlockingRunner(str(tmp_path / "c.db"), workflows=[shop.workflow()]) as runner:
        old = runner.execute("shop")
        shop.ill.clear()
        assert runner.retry(old.id).result(timeout=20).status is COMPLETED
        assert runner.handle(old.id).retry().result(timeout=20).status is COMPLETED
        assert runner.fork(old.id, from_task="ship").result(timeout=20).status is FAILED
        (one,) = runner.retry_many(skip_forked=False, limit=1)
        assert one.fork is not None


# The model: any DAG, any failures, then all is well.


@st.composite
def stories(draw: st.DrawFn) -> tuple[list[tuple[int, ...]], list[bool], frozenset[int]]:
    """For each task what it depends on, whether it stands in for its first dependency, and which tasks fail."""
    count = draw(st.integers(1, 6))
    needs = [tuple(n for n in range(at) if draw(st.booleans())) for at in range(count)]
    stands_in = [bool(needed) and draw(st.integers(0, 3)) == 0 for needed in needs]
    fails = frozenset(at for at in range(count) if draw(st.integers(0, 2)) == 0)
    return needs, stands_in, fails


@settings(max_examples=40, deadline=None)
@given(stories())
def test_a_retry_comes_to_what_an_undisturbed_run_would_have(
    story: tuple[list[tuple[int, ...]], list[bool], frozenset[int]],
) -> None:
    needs, stands_in, fails = story
    failing: set[str] = set()

    def body(name: str) -> Callable[[Context], Any]:
        async def body(ctx: Context) -> None:
            ctx[name] = sorted(ctx)
            ctx["trail"] = [*ctx["trail"], name]
            ctx["last"] = name
            if name in failing:
                raise ValueError(name)

        return body

    tasks = [
        task(
            body(f"t{at}"),
            id=f"t{at}",
            dependencies=[f"t{n}" for n in needed],
            **({"trigger_rules": task_failed(f"t{needed[0]}")} if stands_in[at] else {}),
        )
        for at, needed in enumerate(needs)
    ]
    workflow = Workflow("w", tasks, retry=False)

    async def main() -> None:
        async with in_memory(workflow) as runner:
            failing.update(f"t{at}" for at in fails)
            old = await runner.execute("w", {"trail": []})
            if old.status is COMPLETED:
                with pytest.raises(ForkRefused):
                    await runner.retry(old.id)
                return
            failing.clear()
            new = await wait(runner, (await runner.retry(old.id)).id)
            failing.update(id for id, one in new.tasks.items() if one.state is TaskState.FAILED)
            model = await runner.execute("w", {"trail": []})
            assert new.context.to_dict() == model.context.to_dict()
            assert (new.status, states(new)) == (model.status, states(model))
            assert {id: one.attempts for id, one in new.tasks.items()} == {
                id: one.attempts for id, one in model.tasks.items()
            }

    asyncio.run(main())
