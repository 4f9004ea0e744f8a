"""The virtual loop: time, death and frost of processes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from simulation.loop import START, Process, Stalled, VirtualLoop, context_of

failed: list[str] = []


@pytest.fixture
def loop() -> VirtualLoop:
    failed.clear()
    return VirtualLoop(failed.append)


def in_process(loop: VirtualLoop, process: Process, work: Callable[[], object]) -> None:
    loop.call_soon(work, context=context_of(process))


def test_time_passes_at_once_and_in_order(loop: VirtualLoop) -> None:
    found: list[tuple[str, float]] = []

    async def sleep(name: str, seconds: float) -> None:
        await asyncio.sleep(seconds)
        found.append((name, loop.time() - START))

    async def main() -> None:
        await asyncio.gather(sleep("late", 3600.0), sleep("early", 0.5), sleep("too", 0.5))

    loop.run(main())
    assert found == [("early", 0.5), ("too", 0.5), ("late", 3600.0)]


def test_a_dead_process_takes_no_step_more(loop: VirtualLoop) -> None:
    process, steps = Process("one"), 0

    async def work() -> None:
        nonlocal steps
        while True:
            steps += 1
            await asyncio.sleep(1.0)

    async def main() -> None:
        task = loop.create_task(work(), context=context_of(process))
        await asyncio.sleep(3.5)
        process.dead = True
        await asyncio.sleep(10.0)
        assert not task.done()
        task._log_destroy_pending = False  # type: ignore[attr-defined]

    loop.run(main())
    assert steps == 4


def test_a_frozen_process_goes_on_with_what_fell_due(loop: VirtualLoop) -> None:
    process, found = Process("one"), []
    timers: list[asyncio.TimerHandle] = []

    def first() -> None:
        found.append(("first", loop.time() - START))
        timers[1].cancel()

    async def main() -> None:
        context = context_of(process)
        timers.append(loop.call_later(2.0, first, context=context))
        timers.append(loop.call_later(3.0, lambda: found.append(("cancelled", 0.0)), context=context))
        process.frozen = True
        await asyncio.sleep(10.0)
        loop.thaw(process)
        await asyncio.sleep(1.0)

    loop.run(main())
    assert found == [("first", 10.0)]


def test_a_process_can_die_before_each_of_its_steps(loop: VirtualLoop) -> None:
    deaths = []
    for number in range(1, 5):
        process, done = Process("one"), []
        left = number

        def stepped(process: Process = process) -> None:
            nonlocal left
            left -= 1
            process.dead = left == 0

        def step(done: list[int] = done) -> None:
            done.append(1)
            if len(done) < 3:
                loop.call_soon(step, done)

        async def main(process: Process = process, step: Callable[[], object] = step) -> None:
            process.stepped = stepped
            in_process(loop, process, step)
            await asyncio.sleep(1.0)

        loop.run(main())
        deaths.append(len(done))
    assert deaths == [0, 1, 2, 3]


@pytest.mark.parametrize("why", ["nothing is left to do", "steps at"])
def test_a_stall_is_told(loop: VirtualLoop, why: str) -> None:
    async def wait() -> None:
        await loop.create_future()

    async def spin() -> None:
        while True:
            await asyncio.sleep(0)

    with pytest.raises(Stalled, match=why):
        loop.run(wait() if why.startswith("nothing") else spin())


def test_an_error_that_nobody_catches_is_told(loop: VirtualLoop) -> None:
    async def main() -> None:
        in_process(loop, Process("one"), lambda: 1 / 0)
        await asyncio.sleep(1.0)

    loop.run(main())
    assert len(failed) == 1
    assert "ZeroDivisionError" in failed[0]
