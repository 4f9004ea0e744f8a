"""The dispatcher by itself: slots that bodies give up while they wait, and take back, in every order."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from cloacina.engine.executors.attempt import Attempt
from cloacina.engine.executors.dispatcher import Dispatcher
from cloacina.engine.executors.local import LocalExecutor
from cloacina.model.context import Context
from cloacina.model.status import AttemptState
from cloacina.model.task import Task, task
from cloacina.settings import Settings
from support.clock import HandClock, turn


@task
async def it(ctx: Context) -> None: ...


@task
def threaded(ctx: Context) -> None: ...


def dispatcher(slots: int = 1) -> Dispatcher:
    settings = Settings(async_slots=slots, thread_slots=slots)
    return Dispatcher(LocalExecutor(settings, HandClock(), asyncio.get_running_loop()))


def running(one: Dispatcher, body: Task = it, suspect: bool = False) -> Attempt:
    """An attempt that has a slot."""
    assert one.executor.take(body)
    return Attempt("e", "w", body, 0, 1, 0, suspect)


def free(one: Dispatcher, body: Task = it) -> int:
    """How many slots can be taken."""
    taken = 0
    while one.executor.take(body):
        taken += 1
    for _ in range(taken):
        one.executor.give_back(body)
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

    priority = 0

    def __init__(self) -> None:
        self.unwanted: set[int] = set()

    def wants(self, index: int) -> bool:
        return index not in self.unwanted


async def test_suspects_run_one_at_a_time() -> None:
    one, driver = dispatcher(slots=5), Driver()
    for index in range(3):
        one.offer(driver, index, it, True)
    one.offer(driver, 3, it, False)
    assert [index for _, index in one.grants()] == [0, 3]
    assert list(one.grants()) == []
    one.release(Attempt("e", "w", it, 0, 1, 0, True))
    driver.unwanted.add(1)
    assert [index for _, index in one.grants()] == [2]
    one.refuse(it, True)
    assert not one.waiting


async def test_a_suspect_that_waits_lets_the_next_one_run() -> None:
    one, driver = dispatcher(slots=5), Driver()
    one.offer(driver, 0, it, True)
    one.offer(driver, 1, it, True)
    assert [index for _, index in one.grants()] == [0]
    parent, child = (Attempt("e", "w", it, index, 1, 0, True) for index in (0, 1))
    one.give_up(parent)
    assert [index for _, index in one.grants()] == [1]
    await one.take_back(parent)
    one.offer(driver, 2, it, True)
    one.release(child)
    assert list(one.grants()) == []
    one.release(parent)
    assert [index for _, index in one.grants()] == [2]
