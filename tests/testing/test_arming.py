"""The arming of failpoints: when they fire, what is left of them, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cloacina import Context, Workflow
from cloacina.errors import StoreUnavailable, ValidationError
from cloacina.testing import FAILPOINTS, TestRunner, assert_attempts, assert_completed, failpoint
from cloacina.testing.failpoints.catalogue import PLACES

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "testing.md"

work = Workflow("work", retry=3)


@work.task
async def step(ctx: Context) -> None:
    ctx["done"] = True


def code_of_all() -> list[object]:
    return [vars(owner).get(place.attribute) for place in PLACES.values() for owner in place.owners]


async def test_an_engine_without_armed_failpoints_runs_its_own_code() -> None:
    before = code_of_all()
    assert not [one for one in before if hasattr(one, "__wrapped__")]
    with failpoint("commit.before", delay=0.0), failpoint("commit.after", delay=0.0):
        assert code_of_all() != before
        async with TestRunner(work) as runner:
            await runner.execute(work)
    assert code_of_all() == before


async def test_two_at_one_place_leave_in_any_order() -> None:
    before = code_of_all()
    first, second = failpoint("commit.before", delay=0.0), failpoint("commit.after", delay=0.0)
    async with TestRunner(work) as runner:
        first.__enter__()
        armed = second.__enter__()
        await runner.execute(work)
        first.__exit__(None, None, None)
        await runner.execute(work)
        second.__exit__(None, None, None)
        assert (armed.passed, armed.fired) == (4, 1)
    assert code_of_all() == before


async def test_it_fires_for_the_nth_and_the_next_ones() -> None:
    async with TestRunner(work) as runner:
        with failpoint("body.after", error=ConnectionError, nth=2, times=2) as armed:
            assert_attempts(await runner.execute(work), step, 1)
            result = await runner.execute(work)
        assert_completed(result)
        assert_attempts(result, step, 3)
        assert (armed.passed, armed.fired) == (4, 2)


async def test_the_database_is_asked_again_after_an_error_that_may_pass() -> None:
    async with TestRunner(work) as runner:
        with failpoint("commit.after", error=StoreUnavailable, times=3) as armed:
            result = await runner.execute(work)
        assert_completed(result)
        assert_attempts(result, step, 1)
        assert armed.passed == 5


async def test_one_that_nobody_came_by_is_a_failure() -> None:
    silent = pytest.raises(AssertionError, match=r"'adopt.before' never fired: it was passed 0 times")
    with silent, failpoint("adopt.before", delay=0.1):
        async with TestRunner(work) as runner:
            await runner.execute(work)


async def test_an_error_of_the_block_is_not_hidden() -> None:
    with pytest.raises(KeyError), failpoint("adopt.before", delay=0.1):
        raise KeyError


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("comit.before", {"delay": 1.0}, "Did you mean 'commit.before'"),
        ("commit.before", {}, "give one of error"),
        ("commit.before", {"delay": 1.0, "kill": True}, "give one of error"),
        ("commit.before", {"delay": 1.0, "nth": 0}, "nth=0 and times=1 count from 1"),
    ],
)
def test_misuse_is_refused(name: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message), failpoint(name, **options):  # type: ignore[arg-type]
        pass


def test_every_failpoint_says_what_it_means_and_is_on_the_page() -> None:
    assert len(FAILPOINTS) >= 15
    table = PAGE.read_text("utf-8").partition("## Failpoints")[2].partition("| name | where |")[2]
    assert set(re.findall(r"`([a-z]+\.[a-z]+)`", table)) == set(FAILPOINTS)
    assert all(meaning.startswith(("before", "after")) for meaning in FAILPOINTS.values())
