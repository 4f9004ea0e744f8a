"""Scripts: Python source that a test runs in a process and a folder of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path

Script = Callable[..., "subprocess.CompletedProcess[str]"]
"""`run_script` in a fresh folder: what the fixture ``script`` gives."""

SECONDS = 60.0


def run_script(
    folder: Path, source: str, *arguments: str, variables: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run ``source`` in ``folder``; warnings are errors, and a script that takes a minute is killed.

    ``variables`` stand in its environment beside those of this process.
    """
    path = folder / "script.py"
    path.write_text(textwrap.dedent(source), "utf-8")
    return run_file(path, *arguments, cwd=folder, variables=variables)


def run_file(
    path: Path, *arguments: str, cwd: Path, variables: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a Python file in the folder ``cwd``, like `run_script`; its exit code is not checked."""
    return subprocess.run(
        [sys.executable, "-W", "error", str(path), *arguments],
        cwd=cwd, env={**os.environ, **(variables or {})}, capture_output=True, text=True, timeout=SECONDS, check=False,
    )  # fmt: skip
