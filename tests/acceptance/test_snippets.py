"""Every Python block of the pages runs, as a script of its own in an empty folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.fences import Fence, prints, python_fences
from support.script import run_script

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
SNIPPETS = [
    pytest.param(fence, id=f"{page.relative_to(ROOT)}:{fence.line}")
    for page in PAGES
    if page.is_file()
    for fence in python_fences(page.read_text("utf-8"))
]


def test_the_readme_shows_python() -> None:
    assert any(str(snippet.id).startswith("README.md:") for snippet in SNIPPETS)


@pytest.mark.parametrize("fence", SNIPPETS)
def test_a_snippet_runs(fence: Fence, tmp_path: Path) -> None:
    if fence.not_run:
        pytest.skip(fence.not_run)
    ended = run_script(tmp_path, fence.text)
    assert ended.returncode == 0, ended.stderr
    if fence.output is not None:
        assert prints(fence.output, ended.stdout), f"it printed:\n{ended.stdout}"
