"""What a body asks for, as a type checker sees it in ``async`` and in ``def`` bodies."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import cloacina

TYPED = """
from datetime import timedelta
from functools import partial
from typing import Any, assert_type
from cloacina import Context, Key, TaskHandle, Workflow

NUMBER = Key("number", int)
work = Workflow("work")

async def fetch(name: str) -> int:
    return len(name)

def count() -> int:
    return 1

@work.task
async def waits(ctx: Context, handle: TaskHandle) -> None:
    assert_type(await ctx.checkpoint(NUMBER, partial(fetch, "a")), int)
    assert_type(await ctx.checkpoint(NUMBER, lambda: fetch("a")), int)
    assert_type(await ctx.checkpoint("number", lambda: fetch("a")), Any)
    one: int = await ctx.checkpoint(NUMBER, count)
    await handle.defer_until(lambda: one > 1, 5)
    await handle.defer_until(partial(holds, handle.execution), timedelta(minutes=1))
    ctx.checkpoint(NUMBER, partial(fetch, "a")) + 1  # type: ignore[operator]
    ctx.checkpoint(NUMBER, lambda: "one")  # type: ignore[arg-type, return-value, unused-ignore]

async def holds(name: str) -> bool:
    return bool(name)

@work.task
def blocks(ctx: Context, handle: TaskHandle) -> None:
    one: int = ctx.checkpoint(NUMBER, count)
    many = ctx.checkpoint("many", lambda: [one, handle.attempt])
    handle.defer_until(lambda: bool(many), 0.5)
"""


def test_the_types_are_known_to_mypy(tmp_path: Path) -> None:
    (tmp_path / "typed.py").write_text(TYPED)
    source = Path(cloacina.__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "typed.py"],
        cwd=tmp_path, env={**os.environ, "MYPYPATH": str(source)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
