"""The cells on the page about notebooks, run as a notebook runs them: one after the other on one event loop."""

from __future__ import annotations

import json
from pathlib import Path

from support.fences import Fence, prints, python_fences
from support.script import Script

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "notebooks.md"
CELLS = [fence for fence in python_fences(PAGE.read_text("utf-8")) if "cell" in (fence.not_run or "")]

KERNEL = """
    import ast, asyncio, inspect, json, linecache, sys
    from pathlib import Path

    async def kernel(cells):
        names = {"__name__": "__main__"}
        for number, text in enumerate(cells):
            # As IPython does: the text of a cell can be found by its name, and nothing is on the disk.
            file = f"/tmp/ipykernel_1/{number}.py"
            linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
            code = compile(text, file, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            returned = eval(code, names)
            if inspect.iscoroutine(returned):
                await returned
            print("END OF CELL", flush=True)
        if "weather" in names:
            assert not names["weather"].unversioned

    asyncio.run(kernel(json.loads(Path("cells.json").read_text("utf-8"))))
"""


def run_cells(cells: list[str], folder: Path, script: Script) -> list[str]:
    (folder / "cells.json").write_text(json.dumps(cells), "utf-8")
    ended = script(KERNEL)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.split("END OF CELL\n")


def test_the_cells_of_the_page_run(tmp_path: Path, script: Script) -> None:
    printed = run_cells([cell.text for cell in CELLS], tmp_path, script)
    assert len(printed) == len(CELLS) + 1 > 4
    shown: list[tuple[Fence, str]] = [*zip(CELLS, printed, strict=False)]
    wrong = [
        (cell.line, out) for cell, out in shown if cell.output is not None and not prints(cell.output, out)
    ]
    assert wrong == []


RUN = """
import cloacina

@cloacina.task
def it(ctx): ...

try:
    cloacina.run(cloacina.Workflow("w", [it]))
except cloacina.CloacinaError as error:
    print(type(error).__name__, error)
"""


def test_a_cell_cannot_start_another_loop(tmp_path: Path, script: Script) -> None:
    assert "WrongThread cloacina.run() blocks" in run_cells([RUN], tmp_path, script)[0]
