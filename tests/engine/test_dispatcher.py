"""The dispatcher by itself: slots that bodies give up while they wait, and take back, in every order."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from cloacina.engine.executors.attempt import Attempt, Ending
from cloacina.engine.executors.dispatcher import Dispatcher
from cloacina.engine.executors.protocol import TaskExecutor
from cloacina.model.context.context import Context
from cloacina.model.status import AttemptState
from cloacina.model.task import Task, task
from cloacina.model.workflow import Workflow
from support.clock import HandClock, turn


@task
async def it(ctx: Context) -> None: ...


@task(timeout=5)
def threaded(ctx: Context) -> None: ...


WORK = Workflow("w", [it, threaded])
ROUTES = {"w": ("a", "b")}
INDEX = {it: 0, threaded: 1}


class Executor:
    """Counts what it is told; its bodies end when a test ends them."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.started: list[Attempt] = []
        self.stopped: list[Attempt] = []
        self.closed = 0
        self.fails: Exception | None = None

    def start(self, attempt: Attempt) -> None:
        if self.fails is not None:
            raise self.fails
        self.started.append(attempt)

    def stop(self, attempt: Attempt) -> None:
        if self.fails is not None:
            raise self.fails
        self.stopped.append(attempt)

    async def close(self) -> None:
        self.closed += 1
        if self.fails is not None:
            raise self.fails


def dispatcher(slots: int = 1, other: int | None = None, clock: HandClock | None = None) -> Dispatcher:
    """Two executors, ``a`` for async tasks and ``b`` for the others."""
    executors: dict[str, TaskExecutor] = {
        "a": Executor(slots),
        "b": Executor(slots if other is None else other),
    }
    return Dispatcher(executors, ROUTES, clock or HandClock(), lambda: None)


def executor(one: Dispatcher, name: str = "a") -> Executor:
    found = one.lanes[name].executor
    assert isinstance(found, Executor)
    return found


def attempt_of(body: Task = it, suspect: bool = False) -> Attempt:
    return Attempt("e", "w", body, INDEX[body], 1, 0, suspect)


def running(one: Dispatcher, body: Task = it, suspect: bool = False) -> Attempt:
    """An attempt that has a slot."""
    assert one.lane("w", INDEX[body]).take()
    attempt = attempt_of(body, suspect)
    attempt.slot = True
    return attempt


def free(one: Dispatcher, body: Task = it) -> int:
    """How many slots can be taken."""
    lane = one.lane("w", INDEX[body])
    taken = 0
    while lane.take():
        taken += 1
    lane.taken -= taken
    return taken


async def finishes(*coming: asyncio.Future[Any]) -> None:
    await asyncio.wait_for(asyncio.gather(*coming, return_exceptions=True), 20)


@pytest.mark.parametrize("body", [it, threaded])
async def test_a_slot_that_was_given_up_is_free_until_it_is_taken_back(body: Task) -> None:
    one = dispatcher()
    attempt = running(one, body)
    assert one.give_up(attempt) is True
    assert free(one, body) == 1
    await one.take_back(attempt)
    assert (free(one, body), attempt.yielded) == (0, 0)
    one.release(attempt)
    assert free(one, body) == 1


async def test_the_first_wait_gives_up_the_slot_and_the_last_one_takes_it_back() -> None:
    one = dispatcher()
    attempt = running(one)
    assert [one.give_up(attempt) for _ in range(3)] == [True, False, False]
    for _ in range(2):
        await one.take_back(attempt)
        assert free(one) == 1
    await one.take_back(attempt)
    assert free(one) == 0


async def test_who_comes_back_is_served_before_new_attempts_and_in_order() -> None:
    one = dispatcher()
    attempts = []
    for _ in range(3):
        attempts.append(running(one))
        one.give_up(attempts[-1])
    holder = running(one)
    coming = [asyncio.ensure_future(one.take_back(attempt)) for attempt in attempts]
    await turn()
    done = []
    for attempt in [holder, *attempts[:-1]]:
        one.release(attempt)
        assert free(one) == 0
        await turn()
        done.append([task.done() for task in coming])
    assert done == [[True, False, False], [True, True, False], [True, True, True]]


async def test_a_wait_that_begins_while_the_slot_comes_back_leaves_no_slot_behind() -> None:
    one = dispatcher()
    attempt = running(one)
    one.give_up(attempt)
    holder = running(one)
    first = asyncio.ensure_future(one.take_back(attempt))
    await turn()
    one.give_up(attempt)
    one.release(holder)
    await finishes(first)
    assert (attempt.yielded, free(one)) == (1, 1)
    await one.take_back(attempt)
    one.release(attempt)
    assert free(one) == 1


async def test_an_attempt_that_ends_while_its_slot_comes_back_leaves_it_to_others() -> None:
    one = dispatcher()
    attempt = running(one, threaded)
    one.give_up(attempt)
    holder = running(one, threaded)
    coming = asyncio.ensure_future(one.take_back(attempt))
    await turn()
    attempt.ended = True
    one.release(attempt)
    one.release(holder)
    await finishes(coming)
    assert free(one, threaded) == 1


@pytest.mark.parametrize("granted", [False, True])
async def test_a_body_that_is_cancelled_while_its_slot_comes_back_leaves_it_to_others(granted: bool) -> None:
    one = dispatcher()
    attempt = running(one)
    one.give_up(attempt)
    holder = running(one)
    coming = asyncio.ensure_future(one.take_back(attempt))
    await turn()
    if granted:
        one.release(holder)
        coming.cancel()
    else:
        coming.cancel()
        await turn()
        one.release(holder)
    await finishes(coming)
    one.release(attempt)
    assert (coming.cancelled(), free(one)) == (True, 1)


async def test_a_body_that_was_told_to_stop_needs_no_slot() -> None:
    one = dispatcher()
    attempt = running(one)
    one.give_up(attempt)
    holder = running(one)
    attempt.stopping = AttemptState.CANCELLED
    await asyncio.wait_for(one.take_back(attempt), 20)
    one.release(attempt)
    assert free(one) == 0
    one.release(holder)
    assert free(one) == 1


async def test_many_that_no_longer_come_back_do_not_break_a_release() -> None:
    one = dispatcher(slots=3000)
    attempts = [running(one) for _ in range(3000)]
    for attempt in attempts:
        one.give_up(attempt)
    holders = [running(one) for _ in range(3000)]
    coming = [asyncio.ensure_future(one.take_back(attempt)) for attempt in attempts]
    await turn()
    for waiter in coming:
        waiter.cancel()
    await finishes(*coming)
    one.release(holders[0])
    assert free(one) == 1


class Driver:
    """An execution whose tasks want to run."""

    workflow = WORK

    def __init__(self, priority: int = 0) -> None:
        self.priority = priority
        self.unwanted: set[int] = set()

    def wants(self, index: int) -> bool:
        return index not in self.unwanted


async def test_suspects_run_one_at_a_time() -> None:
    one, drivers = dispatcher(slots=5), [Driver() for _ in range(4)]
    for driver in drivers[:3]:
        one.offer(driver, 0, True)
    one.offer(drivers[3], 0, False)
    assert [driver for driver, _ in one.grants()] == [drivers[0], drivers[3]]
    assert list(one.grants()) == []
    first = attempt_of(suspect=True)
    first.slot = True
    one.release(first)
    drivers[1].unwanted.add(0)
    assert [driver for driver, _ in one.grants()] == [drivers[2]]
    one.refuse(drivers[2], 0, True)
    assert not one.waiting


async def test_a_suspect_that_waits_lets_the_next_one_run() -> None:
    one, drivers = dispatcher(slots=5), [Driver() for _ in range(3)]
    one.offer(drivers[0], 0, True)
    one.offer(drivers[1], 0, True)
    assert [driver for driver, _ in one.grants()] == [drivers[0]]
    parent, child = (attempt_of(suspect=True) for _ in range(2))
    parent.slot = child.slot = True
    one.give_up(parent)
    assert [driver for driver, _ in one.grants()] == [drivers[1]]
    await one.take_back(parent)
    one.offer(drivers[2], 0, True)
    one.release(child)
    assert list(one.grants()) == []
    one.release(parent)
    assert [driver for driver, _ in one.grants()] == [drivers[2]]


async def test_suspects_of_a_full_executor_hold_up_no_other_suspect() -> None:
    one, driver = dispatcher(slots=0, other=1), Driver()
    one.offer(driver, 0, True)
    one.offer(driver, 1, True)
    assert [index for _, index in one.grants()] == [1]


async def test_a_full_executor_holds_up_no_other() -> None:
    one, driver = dispatcher(slots=1, other=3), Driver()
    for index in (0, 0, 1, 1, 1, 1):
        one.offer(driver, index, False)
    assert [index for _, index in one.grants()] == [0, 1, 1, 1]
    assert one.metrics()["a"].waiting == one.metrics()["b"].waiting == 1
    blocked = attempt_of(threaded)
    blocked.slot = True
    one.release(blocked)
    assert [index for _, index in one.grants()] == [1]
    assert one.waiting


async def test_the_higher_priority_starts_first_and_then_who_came_first() -> None:
    one = dispatcher(slots=10)
    drivers = [Driver(priority) for priority in (0, 5, 0, 5, -1)]
    for driver in drivers:
        one.offer(driver, 0, False)
    assert [drivers.index(granted) for granted, _ in one.grants() if isinstance(granted, Driver)] == [
        1, 3, 0, 2, 4,
    ]  # fmt: skip


async def test_an_executor_that_grew_serves_who_comes_back_before_new_attempts() -> None:
    one, driver = dispatcher(slots=1), Driver()
    back = running(one)
    one.give_up(back)
    holder = running(one)
    coming = asyncio.ensure_future(one.take_back(back))
    await turn()
    one.offer(driver, 0, False)
    executor(one).slots = 2
    assert list(one.grants()) == []
    await finishes(coming)
    assert (back.slot, holder.slot, one.bodies) == (True, True, 2)


async def test_an_executor_that_shrank_gives_no_slot_away_until_enough_are_free() -> None:
    one, driver = dispatcher(slots=3), Driver()
    attempts = [running(one) for _ in range(3)]
    executor(one).slots = 1
    one.offer(driver, 0, False)
    for attempt, granted in zip(attempts, (0, 0, 1), strict=True):
        one.release(attempt)
        assert len(list(one.grants())) == granted


async def test_nobody_waits_behind_bodies_that_no_longer_come_back() -> None:
    one = dispatcher(slots=1)
    gone, back = running(one), None
    one.give_up(gone)
    holder = running(one)
    leaving = asyncio.ensure_future(one.take_back(gone))
    await turn()
    one.give_up(holder)
    leaving.cancel()
    await finishes(leaving)
    back = asyncio.ensure_future(one.take_back(holder))
    await finishes(back)
    assert holder.slot


async def test_the_last_slot_that_is_freed_makes_it_quiet() -> None:
    told: list[int] = []
    one = Dispatcher(
        {"a": Executor(2), "b": Executor(2)}, ROUTES, HandClock(), lambda: told.append(one.bodies)
    )
    attempts = [running(one), running(one, threaded)]
    for attempt in attempts:
        one.release(attempt)
    assert told == [0]


async def test_the_time_of_an_attempt_stands_still_while_its_clock_is_held() -> None:
    clock = HandClock()
    one = dispatcher(clock=clock)
    attempt = running(one, threaded)
    one.start(attempt)
    clock.advance(4)
    attempt.hold_clock()
    clock.advance(100)
    attempt.run_clock()
    attempt.run_clock()
    clock.advance(0.9)
    assert executor(one, "b").stopped == []
    clock.advance(0.1)
    assert executor(one, "b").stopped == [attempt]
    assert attempt.stopping is AttemptState.TIMED_OUT
    attempt.end(attempt.conclude(None, None))
    attempt.run_clock()
    assert clock.pending == []


@pytest.mark.parametrize("told", [AttemptState.CANCELLED, AttemptState.TIMED_OUT])
async def test_an_executor_that_raises_fails_the_attempt_and_nothing_else(told: AttemptState) -> None:
    one, endings = dispatcher(), list[Ending]()
    broken = executor(one)
    for fails_at_start in (True, False):
        attempt = running(one)
        attempt.done = lambda attempt, ending: endings.append(ending)
        broken.fails = ValueError("says the test") if fails_at_start else None
        one.start(attempt)
        broken.fails = ValueError("says the test")
        one.stop(attempt, told)
        one.release(attempt)
        assert attempt.written_off is not fails_at_start
    await one.close(0)
    assert [ending.state for ending in endings] == [AttemptState.FAILED, told]
    assert (one.metrics()["a"].started, one.metrics()["a"].ended, one.metrics()["a"].written_off) == (2, 2, 1)


async def test_an_attempt_that_never_reached_its_executor_ends_without_it() -> None:
    one, endings = dispatcher(), list[Ending]()
    attempt = running(one)
    attempt.done = lambda attempt, ending: endings.append(ending)
    one.stop(attempt, AttemptState.CANCELLED)
    one.stop(attempt, AttemptState.CANCELLED)
    assert ([ending.state for ending in endings], executor(one).stopped) == ([AttemptState.CANCELLED], [])


async def test_every_executor_is_closed() -> None:
    one = dispatcher()
    await one.close(0)
    assert [executor(one, name).closed for name in "ab"] == [1, 1]
