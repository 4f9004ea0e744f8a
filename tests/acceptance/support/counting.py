"""A worker whose body writes its execution's id into a ledger; it works until its standard input is closed."""

from __future__ import annotations

import asyncio
import os
import sys

from cloacina import Context, Runner, TaskHandle, Workflow

counted = Workflow("counted")


@counted.task
async def count(ctx: Context, handle: TaskHandle) -> None:
    os.write(LEDGER, f"{handle.execution}\n".encode())


LEDGER = -1


async def main(database: str, ledger: str) -> None:
    global LEDGER
    LEDGER = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    async with Runner(database, workflows=[counted]):
        print("up", flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
