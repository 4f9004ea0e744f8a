"""The context: the JSON document that an execution carries from task to task.

    python 02_context.py

Shows plain values, typed keys, values that are no JSON by themselves, lists that two branches extend, and
what happens to a value that cannot be stored.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from cloacina import Context, Key, Runner, Workflow


@dataclass
class Invoice:
    """A typed value: stored as JSON, read back as what it is."""

    number: int
    total: Decimal
    due: date


INVOICE = Key("invoice", Invoice)
NOTES = Key("notes", list[str])

billing = Workflow("billing", description="Make an invoice and check it twice")


@billing.task
def make_invoice(ctx: Context) -> None:
    """Typed in, typed out."""
    ctx[INVOICE] = Invoice(number=ctx["order"], total=Decimal("99.90"), due=date(2030, 1, 31))
    ctx["notes"] = []


@billing.task(dependencies=[make_invoice])
async def check_total(ctx: Context) -> None:
    """One branch extends the list of notes."""
    if ctx[INVOICE].total > 50:
        ctx["notes"].append("large amount, second signature needed")


@billing.task(dependencies=[make_invoice])
async def check_date(ctx: Context) -> None:
    """The other branch extends it too: both extensions are kept."""
    ctx["notes"].append(f"due in {ctx[INVOICE].due.year}")


@billing.task(dependencies=[check_total, check_date])
def finish(ctx: Context) -> None:
    """A task sees what all tasks before it left."""
    ctx["summary"] = f"invoice {ctx[INVOICE].number}: {len(ctx[NOTES])} notes"


careless = Workflow("careless", description="Put something into the context that is not JSON")


@careless.task(retry=False)
def keep_a_socket(ctx: Context) -> None:
    """Refused at once, with the path of the value."""
    ctx["connection"] = {"retries": 3, "socket": object()}


async def main() -> None:
    async with Runner("sqlite:///context.db", workflows=[billing, careless]) as runner:
        result = await runner.execute(billing, {"order": 4711})
        print(result.context["summary"])
        for note in result.context[NOTES]:
            print(f"  - {note}")
        print(f"due {result.context[INVOICE].due:%d %B %Y}")

        refused = await runner.execute(careless)
        print(refused.tasks["keep_a_socket"].error)


if __name__ == "__main__":
    asyncio.run(main())
