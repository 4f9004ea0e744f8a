"""Failures, the cause mended, and everything that failed done again from where it stood.

    python 07_retry_after_failure.py

A shop ships orders while its carrier is out of order. Each order is paid for before that, and paying twice would be
bad. Once the carrier is back, all failed orders are retried at once: first as a dry run, then for good. One order
had a wrong address; it is forked with another one.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from cloacina import Context, ExecutionStatus, RetryPolicy, Runner, Workflow, task_failed

DATABASE = "retry_after_failure.db"

shop = Workflow("shop", retry=RetryPolicy(max_attempts=2, initial_delay=0.01))
carrier_is_up = False
payments: list[str] = []


@shop.task
async def pay(ctx: Context) -> None:
    """Done once for each order, whatever happens later."""
    payments.append(ctx["order"])
    ctx["paid"] = 99


@shop.task(dependencies=[pay])
async def ship(ctx: Context) -> None:
    """Fails while the carrier is down, and for an address that there is not."""
    if not carrier_is_up:
        raise ConnectionError("the carrier does not answer")
    if ctx["address"] == "nowhere":
        raise ValueError("no such address")
    ctx["shipped"] = True


@shop.task(dependencies=[ship], trigger_rules=task_failed(ship))
async def apologise(ctx: Context) -> None:
    """Runs because shipping failed; in the retry it is decided anew."""
    print(f"  sorry about order {ctx['order']}")


@shop.task(dependencies=[ship])
async def thank(ctx: Context) -> None:
    """The last step."""
    print(f"  order {ctx['order']} is on its way to {ctx['address']}")


async def main() -> None:
    global carrier_is_up
    async with Runner(f"sqlite:///{DATABASE}", workflows=[shop]) as runner:
        print("The carrier is down:")
        for order, address in (("A1", "Rome"), ("B2", "Oslo"), ("C3", "nowhere")):
            result = await runner.execute(shop, {"order": order, "address": address}, tags=["monday"])
            assert result.status is ExecutionStatus.FAILED

        print("A dry run of the retry:")
        for one in await runner.retry_many(tag="monday", dry_run=True):
            print(f"  {one}")

        print("The carrier is back:")
        carrier_is_up = True
        retried = await runner.retry_many(tag="monday")
        results = [await runner.result(one.fork) for one in retried if one.fork is not None]
        wrong = [result for result in results if result.status is ExecutionStatus.FAILED]
        for result in wrong:
            print(f"  {result.context['order']} still failed: {result.error}")

        print("With another address:")
        handle = await runner.fork(wrong[0].id, from_task="ship", replace={"address": "Lima"})
        result = await handle.result()
        assert result.status is ExecutionStatus.COMPLETED and result.forked_from == wrong[0].id

        print(f"Paid, in this order and never twice: {', '.join(payments)}")
        assert sorted(payments) == ["A1", "B2", "C3"]


if __name__ == "__main__":
    for name in ("", "-wal", "-shm"):
        Path(f"{DATABASE}{name}").unlink(missing_ok=True)
    asyncio.run(main())
