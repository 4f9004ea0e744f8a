"""Replays: what new code decides otherwise about an execution that older code ran, and what its bodies change."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from cloacina import Context, PermanentError, RetryPolicy, Workflow, context_value, task_failed, task_success
from cloacina.errors import ExecutionNotFound, ValidationError
from cloacina.model.context.keys import Key
from cloacina.store.payloads import Checksum, Payloads
from cloacina.testing import Recording, Replay, TestRunner, record, replay, rerun


def etl(**options: object) -> Workflow:
    """The workflow as it was when it ran, with other ``options``."""
    made = Workflow("etl", **options)  # type: ignore[arg-type]
    made.add(fetch)
    made.add(price, dependencies=["fetch"])
    made.add(report, dependencies=["price"])
    return made


async def fetch(ctx: Context) -> None:
    ctx["rows"] = [1, 2, ctx["n"]]


def price(ctx: Context) -> None:
    ctx["sum"] = sum(ctx["rows"])
    ctx["rows"].append(9)


async def report(ctx: Context) -> None:
    ctx["totals"] = {"sum": ctx["sum"]}


async def recording_of(workflow: Workflow, input: object = None, fails: str | None = None) -> Recording:
    async with TestRunner(workflow) as runner:
        if fails is not None:
            runner.fail(fails, error=PermanentError)
        result = await runner.execute(workflow, {"n": 3} if input is None else input)
        return await runner.record(result.id)


def told(found: Replay) -> list[str]:
    return [str(difference) for difference in found.differences]


async def test_the_same_code_decides_the_same() -> None:
    found = replay(await recording_of(etl()), etl())
    assert found.same
    assert (found.objection, found.undecided) == (None, ())
    assert "the same" in str(found)


async def test_bodies_do_not_count() -> None:
    other = Workflow("etl")
    other.add(report, id="fetch")
    other.add(report, id="price", dependencies=["fetch"])
    other.add(report, dependencies=["price"])
    found = replay(await recording_of(etl()), other)
    assert found.same
    assert found.old_version != found.new_version
    assert found.objection is None


async def test_a_rule_that_no_longer_holds_is_told() -> None:
    other = Workflow("etl")
    other.add(fetch)
    other.add(price, dependencies=["fetch"], trigger_rules=context_value("n", ">", 3))
    other.add(report, dependencies=["price"])
    found = replay(await recording_of(etl()), other)
    assert told(found)[:2] == [
        "task 'price' completed; with the new code it is skipped (rule_not_met)",
        "task 'report' completed; with the new code it is skipped (dependencies_skipped)",
    ]
    assert "the execution has 6 under 'sum' in the end; with the new code it has nothing" in told(found)
    assert found.objection is not None and "price has another rule" in found.objection


async def test_a_task_that_would_run_now_leaves_what_is_below_it_undecided() -> None:
    old = etl()
    old.add(fetch, id="alert", dependencies=["price"], trigger_rules=task_failed("price"))
    old.add(fetch, id="last", dependencies=["alert"])
    new = etl()
    new.add(fetch, id="alert", dependencies=["price"], trigger_rules=task_success("price"))
    new.add(fetch, id="last", dependencies=["alert"])
    found = replay(await recording_of(old), new)
    assert told(found) == ["task 'alert' was skipped (rule_not_met); with the new code it runs"]
    assert found.undecided == ("alert", "last")


async def test_new_and_lost_tasks_are_told() -> None:
    other = Workflow("etl")
    other.add(fetch)
    other.add(report, id="audit", dependencies=["fetch"])
    other.add(price, dependencies=["fetch"])
    found = replay(await recording_of(etl()), other)
    assert told(found)[:2] == [
        "task 'report' completed; with the new code it is gone",
        "task 'audit' was not there; with the new code it runs",
    ]


async def test_a_failure_that_is_forgiven_now_is_told() -> None:
    recording = await recording_of(etl(), fails="report")
    other = Workflow("etl")
    other.add(fetch)
    other.add(price, dependencies=["fetch"])
    other.add(report, dependencies=["price"], optional=True)
    assert replay(recording, etl()).same
    assert told(replay(recording, other)) == ["the execution was failed; with the new code it is completed"]


async def test_fewer_attempts_than_were_needed_are_told() -> None:
    async with TestRunner(etl()) as runner:
        runner.fail("price", times=2)
        result = await runner.execute("etl", {"n": 1})
        recording = await runner.record(result.id)
    found = replay(recording, etl(retry=RetryPolicy(max_attempts=2)))
    assert told(found) == ["task 'price' completed after 2 failures; with the new code it has 2 attempts"]


async def test_another_merge_is_told() -> None:
    wide = Workflow("wide")
    wide.add(set_one, id="a")
    wide.add(set_two, id="b")
    other = Workflow("wide", keys=[Key("x", int, merge=min)])
    other.add(set_one, id="a")
    other.add(set_two, id="b")
    found = replay(await recording_of(wide), other)
    assert told(found) == ["the execution has 2 under 'x' in the end; with the new code it has 1"]


def set_one(ctx: Context) -> None:
    ctx["x"] = 1


def set_two(ctx: Context) -> None:
    ctx["x"] = 2


async def test_an_execution_in_flight_is_decided_as_far_as_it_came() -> None:
    workflow = etl()
    async with TestRunner(workflow) as runner:
        runner.delay("price", 60)
        handle = await runner.submit(workflow, {"n": 3})
        await runner.advance(1)
        recording = await runner.record(handle.id)
    found = replay(recording, etl())
    assert found.same
    assert found.undecided == ("price", "report")


async def test_a_cancelled_execution_has_no_differences() -> None:
    workflow = etl()
    async with TestRunner(workflow) as runner:
        runner.delay("price", 60)
        handle = await runner.submit(workflow, {"n": 3})
        await runner.advance(1)
        await handle.cancel()
        recording = await runner.record(handle.id)
    found = replay(recording, etl())
    assert found.same
    assert found.undecided == ("price", "report")
    other = Workflow("etl")
    other.add(fetch)
    other.add(price, dependencies=["fetch"])
    other.add(report, dependencies=["fetch"], trigger_rules=task_failed("fetch"))
    assert replay(recording, other).same


@dataclass
class Model:
    n: str


async def test_an_input_that_no_longer_fits_is_told() -> None:
    recording = await recording_of(etl())
    fresh = Recording(recording.stored._replace(attempts=()), recording.dag)
    assert told(replay(fresh, etl(inputs=Model))) == [
        "the execution was completed; with the new code it is refused: its input does not fit the model"
    ]


async def test_bodies_are_called_again_on_what_they_saw() -> None:
    recording = await recording_of(etl())
    assert await rerun(recording, etl(), ["fetch", "price", "report"]) == ()
    other = Workflow("etl")
    other.add(fetch)
    other.add(price_twice, id="price", dependencies=["fetch"])
    other.add(breaks, id="report", dependencies=["price"])
    [one, two] = await rerun(recording, other, ["price", "report"])
    assert str(one) == (
        "task 'price' changed {'set': {'sum': 6}, 'append': {'rows': [9]}}; "
        "with the new code it changes {'set': {'sum': 12}, 'append': {'rows': [9]}}"
    )
    assert str(two).startswith("task 'report' completed; with the new code it fails: cloacina.errors.Perman")


def price_twice(ctx: Context) -> None:
    ctx["sum"] = 2 * sum(ctx["rows"])
    ctx["rows"].append(9)


def breaks(ctx: Context) -> None:
    raise PermanentError("no more")


async def test_a_recording_is_kept_in_a_file_and_read_from_a_database(tmp_path: Path) -> None:
    path, payloads = tmp_path / "work.db", Payloads([Checksum()])
    workflow = etl()
    async with TestRunner(workflow, url=path, payloads=payloads) as runner:
        result = await runner.execute(workflow, {"n": 3})
        own = await runner.record(result.id)
    elsewhere = record(str(path), result.id, payloads=payloads)
    assert elsewhere == own
    assert Recording.load(own.save(tmp_path / "etl.json")) == own
    assert replay(own, etl()).same
    with pytest.raises(ExecutionNotFound):
        record(str(path), "01890000-0000-7000-8000-000000000000")


async def test_misuse_is_refused(tmp_path: Path) -> None:
    recording = await recording_of(etl(), fails="report")
    with pytest.raises(ValidationError, match=r"is no recording: make one with record\(url, id\)"):
        replay("01890000", etl())  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match="is not workflow 'etl'"):
        replay(recording, Workflow("other", tasks=etl().tasks))
    with pytest.raises(ValidationError, match="'report' did not complete in the recording"):
        await rerun(recording, etl(), ["report"])
    with pytest.raises(ValidationError, match=r"rerun.'prize'.: .*Did you mean 'price'"):
        await rerun(recording, etl(), ["prize"])
    bad = tmp_path / "bad.json"
    bad.write_text("{}")
    with pytest.raises(ValidationError, match=r"bad.json is no recording"):
        Recording.load(bad)
