"""A worker whose body writes its execution's id and its own pid into a ledger.

``counting DATABASE LEDGER [SECONDS SLOTS]``: each body takes so many seconds, and so many run at once. It works until
its standard input is closed.
"""

from __future__ import annotations

import asyncio
import os
import sys

from cloacina import Context, Runner, Settings, TaskHandle, Workflow

counted = Workflow("counted")


@counted.task
async def count(ctx: Context, handle: TaskHandle) -> None:
    os.write(LEDGER, f"{handle.execution} {os.getpid()}\n".encode())
    await asyncio.sleep(SECONDS)


LEDGER, SECONDS = -1, 0.0


async def main(database: str, ledger: str, seconds: float = 0.0, slots: int = 256) -> None:
    global LEDGER, SECONDS
    LEDGER, SECONDS = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT), seconds
    settings = Settings(async_slots=slots)
    async with Runner(database, workflows=[counted], settings=settings):
        print("up", flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:3], *map(float, sys.argv[3:4]), *map(int, sys.argv[4:])))
