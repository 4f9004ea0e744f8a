"""Checkpoints and a deferral: one body, killed twice, that orders only once.

    python 06_checkpoints.py

The task orders a print from a shop, waits until it is ready, and takes the picture home. The program starts
itself three times on one database. The first process is killed right after it has ordered, the second one while
the task is deferred. Each time the body runs again from its beginning, and finds what it stored: there is one
order in the shop's book. The shop is a folder here; it could be any service.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

from cloacina import Context, ExecutionStatus, Key, Runner, TaskHandle, Workflow

DATABASE = "sqlite:///checkpoints.db"
SHOP = Path("shop")
ORDER = Key("order", int)

picture = Workflow("picture", description="Order a print, wait for it, take it home")


def say(text: str) -> None:
    print(f"  [process {os.getpid()}] {text}", flush=True)


def die(moment: str) -> None:
    """End this process as ``kill -9`` would, if it was started for that."""
    if os.environ.get("DIES") == moment:
        say("... killed")
        os.kill(os.getpid(), signal.SIGKILL)


async def place_order(reference: str) -> int:
    """Ask the shop for a print. Doing this twice would cost twice."""
    with (SHOP / "book").open("a") as book:
        book.write(f"{reference}\n")
    number = len((SHOP / "book").read_text().splitlines())
    say(f"ordered: number {number}")
    return number


@picture.task
async def have_printed(ctx: Context, handle: TaskHandle) -> None:
    """The body that is killed twice."""
    say(f"attempt {handle.attempt} begins")
    # Execution and task name this piece of work in every attempt: a good reference for the shop, too.
    reference = f"{handle.execution}/{handle.task}"
    number = await ctx.checkpoint(ORDER, lambda: place_order(reference))
    die("after the order")

    looks: list[bool] = []

    def is_ready() -> bool:
        looks.append((SHOP / f"{number}.jpg").exists())
        say(f"order {number} is {'ready' if looks[-1] else 'not ready'}")
        if len(looks) > 1:
            die("while deferred")
        return looks[-1]

    await handle.defer_until(is_ready, poll_interval=0.1)
    ctx["picture"] = (SHOP / f"{number}.jpg").read_text()


async def first() -> None:
    async with Runner(DATABASE, workflows=[picture]) as runner:
        await runner.execute(picture)


async def again() -> None:
    async with Runner(DATABASE, workflows=[picture]) as runner:
        [stored] = await runner.list(workflow="picture", limit=1)
        result = await runner.result(stored.id)
        print(f"The picture shows {result.context['picture']}.")
        for attempt in result.tasks["have_printed"].history:
            print(f"  attempt {attempt.number}: {attempt.state} {attempt.reason or ''}".rstrip())
        assert result.status is ExecutionStatus.COMPLETED


def start(what: str, dies: str = "") -> None:
    ended = subprocess.run([sys.executable, __file__, what], env={**os.environ, "DIES": dies}, check=False)
    if dies:
        assert ended.returncode == -signal.SIGKILL
        print(f"It ended with {ended.returncode}.", flush=True)
    else:
        assert ended.returncode == 0


def main() -> None:
    if len(sys.argv) > 1:
        asyncio.run(first() if sys.argv[1] == "first" else again())
        return
    for name in ("", "-wal", "-shm"):
        Path(f"checkpoints.db{name}").unlink(missing_ok=True)
    SHOP.mkdir(exist_ok=True)
    (SHOP / "book").write_text("")
    (SHOP / "1.jpg").unlink(missing_ok=True)
    print("The first process:", flush=True)
    start("first", dies="after the order")
    print("The second process:", flush=True)
    start("again", dies="while deferred")
    (SHOP / "1.jpg").write_text("a lighthouse")
    print("The print is ready. The third process:", flush=True)
    start("again")
    assert len((SHOP / "book").read_text().splitlines()) == 1
    print("There is one order in the shop's book.")


if __name__ == "__main__":
    main()
