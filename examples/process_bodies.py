"""Bodies in processes of their own: what one does to itself strikes nobody else.

    python process_bodies.py

Pictures are made of a well-known set of numbers: work for the processor alone, which would hold up every other
thread of this process. So each body runs in a process of its own, as many at once as there are CPUs. One of the
pictures crashes its process the first time, one never ends, and one needs more memory than it may have. Their
attempts fail, each with its own error; the crash is tried again, and the other pictures notice nothing.
"""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path

import cloacina
from cloacina import Context, RetryPolicy, Workflow, task

ONCE_MORE = RetryPolicy(max_attempts=2, initial_delay=0.1, retry_on="transient")
"""A crash of the process counts as an error that may pass."""

WIDTH, HEIGHT, DEPTH = 72, 24, 400


def draw(ctx: Context, name: str, centre: complex, zoom: float) -> None:
    """Write a picture, and put its file's name into the context."""
    lines = ["".join(sign(at(centre, zoom, x, y)) for x in range(WIDTH)) for y in range(HEIGHT)]
    path = Path(f"{name}.txt")
    path.write_text("\n".join(lines) + "\n")
    ctx[name] = f"{path}, drawn in {'another process' if os.getpid() != ctx['runner'] else 'the runner'}"


def at(centre: complex, zoom: float, x: int, y: int) -> complex:
    return centre + complex((x / WIDTH - 0.5) * 3 / zoom, (y / HEIGHT - 0.5) * 2 / zoom)


def sign(c: complex) -> str:
    z = 0j
    for depth in range(DEPTH):
        z = z * z + c
        if abs(z) > 2:
            return " .:-=+*%@"[min(8, depth // 2)]
    return "#"


@task(executor="process")
def whole(ctx: Context) -> None:
    """All of it."""
    draw(ctx, "whole", -0.6 + 0j, 1)


@task(executor="process")
def valley(ctx: Context) -> None:
    """A part of it."""
    draw(ctx, "valley", -0.745 + 0.11j, 30)


@task(executor="process", retry=ONCE_MORE)
def crashing(ctx: Context) -> None:
    """Draws with a library that crashes the first time."""
    mark = Path("crashed")
    if not mark.exists():
        mark.touch()
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.abort()
    draw(ctx, "crashing", -0.16 + 1.04j, 40)


@task(executor="process", timeout=0.5, retry=False, optional=True)
def endless(ctx: Context) -> None:
    """Does not end; it is told to stop, and may tidy up."""
    try:
        while True:
            time.sleep(0)
    finally:
        print("endless: tidied up")


@task(executor="process", retry=False, optional=True)
def greedy(ctx: Context) -> None:
    """Wants more memory than it may have."""
    resource.setrlimit(resource.RLIMIT_AS, (2_000_000_000, resource.RLIM_INFINITY))
    bytearray(100_000_000_000)


# The bodies stand at the top level of this file, where a child process finds them.
pictures = Workflow("pictures", [whole, valley, crashing, endless, greedy])


# Children load this file too: what is below this line is not for them.
if __name__ == "__main__":
    result = cloacina.run(pictures, {"runner": os.getpid()})
    print(result.summary)
    for name, found in result.tasks.items():
        told = found.error if found.state is not cloacina.TaskState.COMPLETED else result.context[name]
        print(f"{name}: {found.state} after {found.attempts} attempt(s): {told}")
    print(Path("whole.txt").read_text())
