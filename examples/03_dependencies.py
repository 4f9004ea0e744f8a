"""Dependencies: tasks that wait for others, run side by side, and join again.

    python 03_dependencies.py

A report over three regions: one task splits the work, three run in parallel, one joins their results.
"""

from __future__ import annotations

import asyncio

from cloacina import Context, Runner, Workflow

REGIONS = ("north", "south", "west")

sales = Workflow("sales_report", description="Split by region, sum in parallel, join")


@sales.task
def load(ctx: Context) -> None:
    """Load all orders once."""
    ctx["orders"] = [
        {"region": REGIONS[number % 3], "amount": 10 * number} for number in range(1, ctx["count"] + 1)
    ]
    ctx["totals"] = {}


def sum_region(region: str) -> None:
    """Add a task for one region. A workflow is a value: a loop may build it."""

    @sales.task(id=f"sum_{region}", dependencies=[load])
    async def summed(ctx: Context) -> None:
        amounts = [order["amount"] for order in ctx["orders"] if order["region"] == region]
        await asyncio.sleep(0)  # other regions run meanwhile
        ctx["totals"][region] = sum(amounts)


for name in REGIONS:
    sum_region(name)


@sales.task(dependencies=[f"sum_{region}" for region in REGIONS])
def join(ctx: Context) -> None:
    """Sees the totals of all regions: objects that branches extend are merged."""
    ctx["grand_total"] = sum(ctx["totals"].values())
    del ctx["orders"]


async def main() -> None:
    print(sales.dag.text())
    async with Runner("sqlite:///dependencies.db", workflows=[sales]) as runner:
        results = await asyncio.gather(*(runner.execute(sales, {"count": count}) for count in (3, 30, 300)))
    for result in results:
        print(f"{result.summary} → {result.context['grand_total']} {result.context['totals']}")


if __name__ == "__main__":
    asyncio.run(main())
