"""Cells: Python source that runs in this process, and whose text can be found, as in a notebook."""

from __future__ import annotations

import linecache
from itertools import count
from typing import Any

from cloacina.model.workflow import Workflow

_numbers = count()


def run_cell(source: str, filename: str = "") -> dict[str, Any]:
    """Run ``source``; return its global names."""
    filename = filename or f"<cell {next(_numbers)}>"
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    names: dict[str, Any] = {"__name__": "cell"}
    exec(compile(source, filename, "exec"), names)
    return names


def version_of_cell(source: str, body: str = "body") -> str:
    """The version of a workflow whose only task is a function of the cell ``source``."""
    workflow = Workflow("w")
    workflow.add(run_cell(source)[body], id="step")
    assert not workflow.unversioned
    return workflow.version
