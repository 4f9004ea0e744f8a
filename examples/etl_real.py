"""A real ETL: thousands of lines of CSV, some of them bad, into another SQLite database, with a report.

    python etl_real.py [--lines 5000] [--bad 0.03]

Extract copies the source, so that later steps see one unchanging file. Transform validates every line in four
chunks side by side: good lines become totals per shop and day, bad ones go to a file with the reason. Load
writes the totals in one transaction that can be repeated without doubling anything. The context carries
paths and numbers, never the lines themselves.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import random
import shutil
import sqlite3
from collections import Counter
from collections.abc import Iterator
from datetime import date, timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path

from cloacina import Context, Key, RetryPolicy, Runner, Workflow

CHUNKS = 4
SOURCE, FOLDER = Key("source", str), Key("folder", str)
TOTALS, REJECTED = Key("totals", dict[str, str]), Key("rejected", dict[str, int])

etl = Workflow("etl", description="Sales from CSV into a warehouse")


@etl.task(retry=RetryPolicy(max_attempts=5, initial_delay=0.5))
def extract(ctx: Context) -> None:
    """Copy the source, and cut it into chunks of lines."""
    copy = Path(ctx[FOLDER]) / "extracted.csv"
    shutil.copy(ctx[SOURCE], copy)
    with copy.open(newline="") as lines:
        ctx["lines"] = sum(1 for _ in csv.reader(lines)) - 1
    ctx["copy"] = str(copy)
    ctx["chunks"] = {}


def add_transform(chunk: int) -> None:
    """One task for each chunk; they run side by side on threads."""

    @etl.task(id=f"transform_{chunk}", dependencies=[extract])
    def transform(ctx: Context) -> None:
        totals: dict[str, Decimal] = {}
        rejected: Counter[str] = Counter()
        with (Path(ctx[FOLDER]) / f"rejected_{chunk}.csv").open("w", newline="") as bad_lines:
            bad = csv.writer(bad_lines)
            for number, row in chunk_of(Path(ctx["copy"]), chunk, ctx["lines"]):
                try:
                    key, amount = validated(row)
                    totals[key] = totals.get(key, Decimal(0)) + amount
                except ValueError as reason:
                    rejected[str(reason)] += 1
                    bad.writerow([number, reason, *row])
        ctx["chunks"][str(chunk)] = {
            "totals": {key: str(amount) for key, amount in totals.items()},
            "rejected": dict(rejected),
        }


for each in range(CHUNKS):
    add_transform(each)


@etl.task(dependencies=[f"transform_{chunk}" for chunk in range(CHUNKS)])
def aggregate(ctx: Context) -> None:
    """Add up what the chunks found."""
    totals: dict[str, Decimal] = {}
    rejected: Counter[str] = Counter()
    for found in ctx["chunks"].values():
        for key, amount in found["totals"].items():
            totals[key] = totals.get(key, Decimal(0)) + Decimal(amount)
        rejected.update(found["rejected"])
    ctx[TOTALS] = {key: str(amount) for key, amount in totals.items()}
    ctx[REJECTED] = dict(rejected)
    del ctx["chunks"]


@etl.task(dependencies=[aggregate])
def load(ctx: Context) -> None:
    """Replace what the warehouse has, in one transaction: a repeated attempt doubles nothing."""
    rows = [(*key.split("|"), amount) for key, amount in ctx[TOTALS].items()]
    with sqlite3.connect(Path(ctx[FOLDER]) / "warehouse.db") as warehouse:
        warehouse.execute(
            "CREATE TABLE IF NOT EXISTS sales (day TEXT, shop TEXT, total TEXT, PRIMARY KEY (day, shop))"
        )
        warehouse.execute("DELETE FROM sales")
        warehouse.executemany("INSERT INTO sales VALUES (?, ?, ?)", rows)
    warehouse.close()
    ctx["loaded"] = len(rows)


@etl.task(dependencies=[load])
def report(ctx: Context) -> None:
    """Check the warehouse against what was read."""
    warehouse = sqlite3.connect(Path(ctx[FOLDER]) / "warehouse.db")
    [(rows, total)] = warehouse.execute("SELECT count(*), total(CAST(total AS REAL)) FROM sales").fetchall()
    warehouse.close()
    ctx["report"] = {"rows": rows, "total": round(total, 2), "rejected": sum(ctx[REJECTED].values())}


def chunk_of(path: Path, chunk: int, lines: int) -> Iterator[tuple[int, list[str]]]:
    """The rows of one chunk with their line numbers; the first line of the file is its header."""
    size = -(-lines // CHUNKS)
    with path.open(newline="") as file:
        for number, row in enumerate(csv.reader(file)):
            if chunk * size < number <= (chunk + 1) * size:
                yield number + 1, row


def validated(row: list[str]) -> tuple[str, Decimal]:
    """``day|shop`` and the amount of a row. Raises `ValueError` with the reason."""
    if len(row) != 4:
        raise ValueError("wrong number of columns")
    day, shop, _, text = row
    try:
        date.fromisoformat(day)
    except ValueError:
        raise ValueError("not a date") from None
    try:
        amount = Decimal(text)
    except InvalidOperation:
        raise ValueError("not an amount") from None
    if not amount.is_finite() or amount < 0:
        raise ValueError("negative amount")
    return f"{day}|{shop}", amount


def write_source(path: Path, lines: int, bad: float, seed: int) -> None:
    """Make the kind of file that arrives every night."""
    draw = random.Random(seed)
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["day", "shop", "article", "amount"])
        for number in range(lines):
            day = date(2030, 1, 1) + timedelta(days=number % 28)
            row = [
                day.isoformat(),
                f"shop-{draw.randrange(12)}",
                f"A{draw.randrange(900)}",
                f"{draw.uniform(1, 90):.2f}",
            ]
            if draw.random() < bad:
                row = draw.choice([row[:3], ["31.01.2030", *row[1:]], [*row[:3], "n/a"], [*row[:3], "-5"]])
            rows.writerow(row)


async def run(source: Path) -> None:
    async with Runner("sqlite:///cloacina.db", workflows=[etl]) as runner:
        result = await runner.execute(etl, {"source": str(source), "folder": str(source.parent)})
    print(result.summary)
    print(f"{result.context['lines']} lines, {result.context['loaded']} totals loaded")
    for reason, count in sorted(result.context[REJECTED].items()):
        print(f"  rejected {count:4} × {reason}")
    print(f"report: {result.context['report']}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Sales from CSV into a warehouse")
    parser.add_argument("--lines", type=int, default=5000)
    parser.add_argument("--bad", type=float, default=0.03, help="share of bad lines")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    source = Path("etl") / "sales.csv"
    source.parent.mkdir(exist_ok=True)
    write_source(source, options.lines, options.bad, options.seed)
    asyncio.run(run(source))


if __name__ == "__main__":
    main()
