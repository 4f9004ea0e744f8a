"""Versions in flight: who goes on with executions of a version that nobody has any more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cloacina.engine.upkeep import adoption
from cloacina.errors import ExecutionParked, StoreUnavailable
from cloacina.model.context.context import Context
from cloacina.model.result import ExecutionResult
from cloacina.model.retry import RetryPolicy
from cloacina.model.rules import task_failed
from cloacina.model.status import AttemptState, ExecutionStatus, TaskState
from cloacina.model.task import Task, task
from cloacina.model.workflow import Workflow
from cloacina.runner import Runner
from cloacina.store.rows import NewExecution
from support.clock import HandClock, turn, until
from support.runners import Gate, by_hand, crashing, outside, runner_on, seen_outside, through
from support.stores import fails, interfere, unsure

COMPLETED, PARKED, PAUSED = ExecutionStatus.COMPLETED, ExecutionStatus.PARKED, ExecutionStatus.PAUSED
PENDING, RUNNING = ExecutionStatus.PENDING, ExecutionStatus.RUNNING


class Deploy:
    """Editions of one workflow, first → middle → last, and a database to run them on.

    The first task completes, the middle one of edition 1 waits at a gate. ``made`` has what ran, by edition.
    """

    def __init__(self, path: Path) -> None:
        self.path = path / "c.db"
        self.gate = Gate()
        self.made: list[str] = []

    def task(self, id: str, edition: int, *after: str, stop: bool = False, **options: Any) -> Task:
        async def body(ctx: Context) -> None:
            self.made.append(f"{id}{edition}")
            if stop:
                await self.gate.pass_through(ctx)
            ctx[id] = edition

        return task(body, id=id, dependencies=after, **options)

    def workflow(self, edition: int = 1, *more: Task, **options: Any) -> Workflow:
        tasks = [
            self.task("first", edition),
            self.task("middle", edition, "first", stop=edition == 1),
            self.task("last", edition, "middle"),
        ]
        return Workflow("deploy", [*tasks, *more], **options)

    def runner(self, *workflows: Workflow, **settings: Any) -> Runner:
        return runner_on(self.path, *workflows, **settings)

    async def crash(self, workflow: Workflow | None = None, **settings: Any) -> str:
        """The id of an execution whose runner died in the middle task."""
        async with crashing(self.runner(workflow or self.workflow(), **settings)) as runner:
            handle = await runner.submit("deploy", {"n": 1})
            await self.gate.reached()
        return handle.id

    def events(self, id: str) -> list[str]:
        rows = by_hand(self.path, "SELECT kind FROM events WHERE execution = ? ORDER BY id", id)
        return [kind for (kind,) in rows]

    def standing(self, id: str) -> tuple[ExecutionStatus, str]:
        found = seen_outside(self.path, lambda store: store.execution(id))
        assert found is not None
        return found.status, found.version


@pytest.fixture
def deploy(tmp_path: Path) -> Deploy:
    return Deploy(tmp_path)


async def end(runner: Runner, id: str) -> ExecutionResult:
    return await runner.result(id, timeout=20)


async def end_in_time(runner: Runner, clock: HandClock, id: str) -> ExecutionResult:
    """The end of an execution, while time passes for ``runner``."""
    waiting = asyncio.create_task(end(runner, id))
    await until(lambda: clock.advance(1) and waiting.done())
    return await waiting


# Adopting.


async def test_a_new_version_goes_on_with_what_an_old_one_left(deploy: Deploy) -> None:
    id = await deploy.crash()
    new = deploy.workflow(2)
    async with deploy.runner(new) as runner:
        result = await end(runner, id)
    assert (result.status, result.version) == (COMPLETED, new.version)
    assert result.context.to_dict() == {"n": 1, "first": 1, "middle": 2, "last": 2}
    assert deploy.made == ["first1", "middle1", "middle2", "last2"]
    assert [one.state for one in result.tasks["middle"].history] == [
        AttemptState.INTERRUPTED,
        AttemptState.COMPLETED,
    ]
    assert deploy.events(id) == ["recovered", "adopted"]


async def test_what_was_not_touched_follows_the_new_version(deploy: Deploy) -> None:
    id = await deploy.crash()
    tasks = [
        deploy.task("first", 2),
        deploy.task("middle", 2, "first"),
        deploy.task("extra", 2, "first", "root"),
        deploy.task("root", 2),
    ]
    async with deploy.runner(Workflow("deploy", tasks)) as runner:
        result = await end(runner, id)
    assert set(result.tasks) == {"first", "middle", "extra", "root"}, "the last task is gone"
    assert result.context.to_dict() == {"n": 1, "first": 1, "middle": 2, "extra": 2, "root": 2}


async def test_nothing_left_to_do_under_the_new_version(deploy: Deploy) -> None:
    """All that the new version still has was done before."""

    async def body(ctx: Context) -> None:
        ctx["first"] = 1

    old = Workflow("deploy", [task(body, id="first"), deploy.task("middle", 1, "first", stop=True)])
    async with crashing(deploy.runner(old)) as runner:
        handle = await runner.submit("deploy")
        await deploy.gate.reached()
    by_hand(deploy.path, "DELETE FROM attempts WHERE task = 'middle'")
    async with deploy.runner(Workflow("deploy", [task(body, id="first")])) as runner:
        result = await end(runner, handle.id)
    assert (result.status, list(result.tasks)) == (COMPLETED, ["first"])


async def test_pending_ones_are_adopted_whatever_changed(deploy: Deploy) -> None:
    async with deploy.runner(deploy.workflow(), shutdown_grace=0, window=1) as runner:
        await runner.submit("deploy")
        await deploy.gate.reached()
        waiting = [(await runner.submit("deploy")).id for _ in range(3)]
    other = Workflow("deploy", [deploy.task("all", 2)])
    async with deploy.runner(other) as runner:
        for id in waiting:
            assert (await end(runner, id)).context.to_dict() == {"all": 2}


async def test_a_workflow_that_is_registered_later_adopts_too(deploy: Deploy) -> None:
    id = await deploy.crash()
    async with deploy.runner() as runner:
        await turn()
        assert deploy.standing(id) == (RUNNING, deploy.workflow().version)
        await runner.register(deploy.workflow(2))
        assert (await end(runner, id)).context["last"] == 2


async def test_one_that_slept_wakes_up_under_the_new_version(deploy: Deploy) -> None:
    """It waited for a retry; the new version has a task that can start at once."""
    clock = HandClock()

    async def ill(ctx: Context) -> None:
        deploy.made.append("ill")
        raise ValueError

    later = RetryPolicy(initial_delay=100, max_delay=100, jitter=0)
    async with deploy.runner(
        Workflow("deploy", [task(ill, id="ill", retry=later)]), clock=clock, max_waiting=0
    ) as runner:
        await runner.submit("deploy")
        await until(lambda: 100 in clock.pending and not runner._engine.life.drivers)
    new = Workflow("deploy", [task(ill, id="ill", retry=later), deploy.task("other", 2)])
    async with deploy.runner(new, clock=clock) as runner:
        await until(lambda: "other2" in deploy.made)
        assert deploy.made == ["ill", "other2"], "the retry is still to come"
        clock.advance(100)
        await until(lambda: deploy.made.count("ill") == 2)


async def test_in_batches(deploy: Deploy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adoption, "BATCH", 2)
    async with deploy.runner(deploy.workflow(), shutdown_grace=0, window=1) as runner:
        await runner.submit("deploy")
        await deploy.gate.reached()
        ids = [(await runner.submit("deploy")).id for _ in range(7)]
    async with deploy.runner(deploy.workflow(2)) as runner:
        for id in ids:
            assert (await end(runner, id)).status is COMPLETED


# A live runner keeps what it offers.


async def test_nothing_is_adopted_while_a_live_runner_has_the_version(deploy: Deploy) -> None:
    async with deploy.runner(deploy.workflow(2)) as new:
        async with deploy.runner(deploy.workflow(), shutdown_grace=0, window=1) as old:
            running = await old.submit("deploy")
            await deploy.gate.reached()
            waiting = await old.submit("deploy")
            await look(new)
            for handle in (running, waiting):
                assert deploy.standing(handle.id)[1] == deploy.workflow().version
        await look(new)
        for handle in (running, waiting):
            assert (await end(new, handle.id)).context["last"] == 2
    assert deploy.made.count("first1") == 1


async def look(runner: Runner) -> None:
    """Let ``runner`` notice what others did, and look for what it can adopt."""
    await runner._engine._look_around()
    await runner._engine._adoption.tick()


async def test_a_runner_that_died_leaves_its_version_behind(deploy: Deploy) -> None:
    clock = HandClock()
    async with deploy.runner(deploy.workflow(2), clock=clock) as new:
        async with crashing(deploy.runner(deploy.workflow())) as old:
            handle = await old.submit("deploy")
            await deploy.gate.reached()
        assert (await end_in_time(new, clock, handle.id)).context["last"] == 2


async def test_an_old_version_that_is_back_in_time_keeps_its_work(deploy: Deploy) -> None:
    """The old version is registered again between the look and the adoption."""
    id = await deploy.crash()
    async with deploy.runner() as new:
        store = interfere(new)
        async with crashing(deploy.runner()) as old:

            def register_first(call: Callable[[], Any]) -> Any:
                version = deploy.workflow()
                rows = [("deploy", version.version, version.to_json())]
                outside(deploy.path, lambda store: store.register_versions(old.id, rows, 5))
                return call()

            store.plan("rewrite", register_first)
            await new.register(deploy.workflow(2))
            assert deploy.standing(id) == (RUNNING, deploy.workflow().version)


async def test_of_two_new_runners_one_adopts(deploy: Deploy) -> None:
    ids, clock = [await deploy.crash()], HandClock()
    async with deploy.runner(clock=clock) as one, deploy.runner() as two:
        stores = [interfere(one), interfere(two)]
        holds = [store.hold("rewrite") for store in stores]
        registrations = [asyncio.create_task(runner.register(deploy.workflow(2))) for runner in (one, two)]
        for hold in holds:
            await hold.reached()
        for hold in holds:
            hold.release()
        await asyncio.gather(*registrations)
        result = await end_in_time(one, clock, ids[0])
        assert result.status is COMPLETED
    assert deploy.events(ids[0]).count("adopted") == 1
    assert deploy.made.count("middle2") == 1


async def test_a_look_that_finds_nothing_costs_one_query_and_idle_ones_none(deploy: Deploy) -> None:
    clock = HandClock()
    async with deploy.runner(deploy.workflow(2), clock=clock) as runner:
        engine, asked = runner._engine, list[str]()
        reader: Any = engine.means.reader
        plain = reader._store

        class Watched:
            def __getattr__(self, name: str) -> Any:
                asked.append(name)
                return getattr(plain, name)

        reader._store = Watched()
        for _ in range(5):
            clock.advance(1)
            await turn()
        assert asked.count("stranded") == 0
        await look(runner)
        assert asked.count("stranded") == 1


async def test_a_look_that_fails_is_made_again(deploy: Deploy) -> None:
    id = await deploy.crash()
    async with deploy.runner() as runner:
        interfere(runner).plan("rewrite", fails(StoreUnavailable("for now")))
        await runner.register(deploy.workflow(2))
        assert (await end(runner, id)).status is COMPLETED


async def test_what_was_adopted_with_an_unknown_outcome_is_driven_all_the_same(deploy: Deploy) -> None:
    """The second try finds nothing to adopt; nobody else looks, since no clock moves."""
    deploy.gate.open()
    async with deploy.runner(deploy.workflow()):
        pass
    async with deploy.runner(deploy.workflow(2)) as runner:
        await until(lambda: not runner._engine.life.claims.unowned_work, "the first look")
        old, engine = deploy.workflow().version, runner._engine
        row = NewExecution("0-late", "deploy", old, PENDING, "{}", None, 0, "[]", None, 1, None)
        await through(runner, lambda store: store.insert_unowned([row]))
        interfere(runner).plan("rewrite", unsure(StoreUnavailable("lost after the commit")))
        await engine._adoption.look()
        assert (await end(runner, row.id)).context["last"] == 2


# Setting aside.


def incompatible(deploy: Deploy, **options: Any) -> Workflow:
    tasks = [deploy.task("zero", 2), deploy.task("first", 2, "zero"), deploy.task("middle", 2, "first")]
    return Workflow("deploy", tasks, **options)


async def test_what_cannot_be_adopted_is_set_aside_with_the_reason(deploy: Deploy) -> None:
    id = await deploy.crash()
    old, new = deploy.workflow(), incompatible(deploy)
    async with deploy.runner(new) as runner:
        told = await runner.explain(id)
        assert told.status is PARKED
        assert told.reason == (
            f"no live runner has version {old.version[:12]} of workflow 'deploy', and version {new.version[:12]} "
            "cannot take it over: tasks that have run or were skipped must stay as they are: first depends on zero "
            "instead of nothing; start a runner that has the old version, or cancel it and do it again with fork()"
        )
        with pytest.raises(ExecutionParked, match="was set aside: no live runner has version"):
            await runner.result(id)
        assert deploy.events(id) == ["recovered", "parked"]
        assert await runner.execute("deploy", {"n": 2}), "others are not held up"
    assert deploy.standing(id) == (PARKED, old.version)


async def test_the_old_version_frees_it(deploy: Deploy) -> None:
    id = await deploy.crash()
    async with deploy.runner(incompatible(deploy)):
        assert deploy.standing(id)[0] is PARKED
    deploy.gate.open()
    async with deploy.runner(deploy.workflow()) as runner:
        result = await end(runner, id)
    assert (result.status, result.error) == (COMPLETED, None)
    assert result.context.to_dict() == {"n": 1, "first": 1, "middle": 1, "last": 1}
    assert deploy.events(id) == ["recovered", "parked", "freed"]


async def test_a_version_that_can_take_it_frees_it(deploy: Deploy) -> None:
    id = await deploy.crash()
    async with deploy.runner(incompatible(deploy)):
        assert deploy.standing(id)[0] is PARKED
    async with deploy.runner(deploy.workflow(3)) as runner:
        result = await end(runner, id)
    assert (result.status, result.error, result.context["last"]) == (COMPLETED, None, 3)
    assert deploy.events(id) == ["recovered", "parked", "adopted"]


async def test_it_is_looked_into_again_only_by_others(deploy: Deploy) -> None:
    """One live runner cannot take it; another, which was there before, can."""
    async with deploy.runner(deploy.workflow(3)) as able:
        id = await deploy.crash()
        async with deploy.runner(incompatible(deploy)) as unable:
            assert deploy.standing(id)[0] is PARKED
            interfere(unable).plan("rewrite", fails(AssertionError()))  # type: ignore[arg-type]
            await look(unable)
            await look(unable)
            assert deploy.events(id) == ["recovered", "parked"]
            assert unable._engine._adoption._refused == {id}, "what stays as it is, is not even read again"
            await look(able)
            assert (await end(able, id)).context["last"] == 3


async def test_who_waits_in_this_process_is_told_when_it_is_set_aside(deploy: Deploy) -> None:
    id = await deploy.crash()
    async with deploy.runner() as runner:
        waiting = asyncio.create_task(runner.result(id, timeout=20))
        await until(lambda: runner._engine.access.hub.awaited())
        await runner.register(incompatible(deploy))
        with pytest.raises(ExecutionParked, match="depends on zero"):
            await waiting


async def test_one_that_was_set_aside_can_be_cancelled_and_forked(deploy: Deploy) -> None:
    id = await deploy.crash()
    async with deploy.runner(incompatible(deploy)) as runner:
        assert await runner.cancel(id) is ExecutionStatus.CANCELLED
        fork = await runner.fork(id)
        assert (await end(runner, fork.id)).context.to_dict() == {"n": 1, "zero": 2, "first": 2, "middle": 2}


async def test_one_that_is_resumed_by_hand_is_looked_into_again(deploy: Deploy) -> None:
    id = await deploy.crash()
    async with deploy.runner(incompatible(deploy)) as runner:
        assert await runner.resume(id) is RUNNING
        await look(runner)
        assert deploy.standing(id)[0] is PARKED


# Paused ones.


async def test_a_paused_one_is_adopted_and_stays_paused(deploy: Deploy) -> None:
    id = await deploy.crash()
    async with deploy.runner() as runner:
        assert await runner.pause(id) is PAUSED
        await runner.register(deploy.workflow(2))
        assert deploy.standing(id) == (PAUSED, deploy.workflow(2).version)
        await runner.resume(id)
        assert (await end(runner, id)).context["last"] == 2


async def test_a_paused_one_that_cannot_be_adopted_is_left_alone(deploy: Deploy) -> None:
    id = await deploy.crash()
    async with deploy.runner() as runner:
        await runner.pause(id)
        await runner.register(incompatible(deploy))
        assert deploy.standing(id) == (PAUSED, deploy.workflow().version)
        told = (await runner.explain(id)).reason
        assert told.startswith("nothing starts until resume()") and "no live runner has version" in told
        await runner.resume(id)
        await look(runner)
        assert deploy.standing(id)[0] is PARKED


# Policies.


async def test_a_pinned_workflow_leaves_other_versions_alone(deploy: Deploy) -> None:
    id = await deploy.crash()
    old, new = deploy.workflow(), deploy.workflow(2, on_version="pin")
    assert new.version == deploy.workflow(2).version, "the policy does not count in the version"
    async with deploy.runner(new) as runner:
        await turn()
        assert deploy.standing(id) == (RUNNING, old.version)
        assert (
            'leaves it alone (on_version="pin"): start a runner that has the old version'
            in (await runner.explain(id)).reason
        )
    deploy.gate.open()
    async with deploy.runner(old) as runner:
        assert (await end(runner, id)).status is COMPLETED


async def test_adopt_takes_what_can_go_on_at_all(deploy: Deploy) -> None:
    """The task that ran has another dependency now, which has run too."""

    async def free(ctx: Context) -> None:
        ctx["free"] = True

    old = Workflow("deploy", [task(free, id="free"), deploy.task("middle", 1, stop=True)])
    new = Workflow("deploy", [task(free, id="free"), deploy.task("middle", 2, "free")], on_version="adopt")
    strict = Workflow("deploy", [task(free, id="free"), deploy.task("middle", 2, "free")])
    id = await deploy.crash(old)
    async with deploy.runner(strict):
        assert deploy.standing(id)[0] is PARKED
    async with deploy.runner(new) as runner:
        result = await end(runner, id)
    assert (result.status, result.context["middle"]) == (COMPLETED, 2)


async def test_adopt_does_not_start_a_task_before_what_it_depends_on_now(deploy: Deploy) -> None:
    id = await deploy.crash()
    async with deploy.runner(incompatible(deploy, on_version="adopt")) as runner:
        assert (
            "has begun before what it depends on now: first depends on zero"
            in (await runner.explain(id)).reason
        )
        assert deploy.standing(id)[0] is PARKED


@pytest.mark.parametrize("policy", ["adopt_if_compatible", "adopt"])
async def test_code_without_source_is_adopted_only_if_told_to(deploy: Deploy, policy: Any) -> None:
    def hidden(edition: int) -> Task:
        namespace: dict[str, Any] = {}
        exec(f"async def hidden(ctx):\n    ctx['hidden'] = {edition}", namespace)
        return task(namespace["hidden"], id="hidden")

    id = await deploy.crash(deploy.workflow(1, hidden(1)))
    new = deploy.workflow(2, hidden(2), on_version=policy)
    assert new.unversioned
    async with deploy.runner(new) as runner:
        if policy == "adopt":
            assert (await end(runner, id)).status is COMPLETED
        else:
            assert "code without source" in (await runner.explain(id)).reason


# Checkpoints.


@pytest.mark.parametrize(("edition", "charged"), [(1, 1), (2, 2)])
async def test_checkpoints_stay_with_unchanged_code(deploy: Deploy, edition: int, charged: int) -> None:
    calls: list[int] = []

    def payment(edition: int, stop: bool) -> Task:
        async def charge(ctx: Context) -> None:
            async def really() -> int:
                calls.append(1)
                return len(calls)

            ctx["receipt"] = await ctx.checkpoint("charge", really)
            ctx["edition"] = edition
            await deploy.gate.pass_through(ctx)

        return task(charge, id="charge")

    def workflow(edition: int, *more: Task) -> Workflow:
        return Workflow("deploy", [payment(edition, False), *more])

    id = await deploy.crash(workflow(1))
    deploy.gate.open()
    async with deploy.runner(workflow(edition, deploy.task("more", 2, "charge"))) as runner:
        result = await end(runner, id)
    assert (result.context["edition"], len(calls), result.context["receipt"]) == (edition, charged, charged)


async def test_a_task_that_was_skipped_counts_as_touched(deploy: Deploy) -> None:
    def workflow(edition: int, **options: Any) -> Workflow:
        tasks = [
            deploy.task("first", edition),
            deploy.task("alert", edition, "first", trigger_rules=task_failed("first")),
            deploy.task("middle", edition, "first", stop=edition == 1, **options),
        ]
        return Workflow("deploy", tasks)

    id = await deploy.crash(workflow(1))
    changed = Workflow(
        "deploy",
        [deploy.task("first", 2), deploy.task("alert", 2, "first"), deploy.task("middle", 2, "first")],
    )
    async with deploy.runner(changed) as runner:
        assert "alert has another rule" in (await runner.explain(id)).reason
    async with deploy.runner(workflow(2)) as runner:
        result = await end(runner, id)
        assert result.tasks["alert"].state is TaskState.SKIPPED and result.context["middle"] == 2
