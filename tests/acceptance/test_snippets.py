"""Every Python block of the pages runs, as a script of its own in an empty folder.

Those marked ``<!-- postgres -->`` find the URL of a database in ``DATABASE_URL``: one for all blocks of a page.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from support.fences import Fence, prints, python_fences
from support.script import run_script

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
SNIPPETS = [
    pytest.param(page.relative_to(ROOT).as_posix(), fence, id=f"{page.relative_to(ROOT)}:{fence.line}")
    for page in PAGES
    if page.is_file()
    for fence in python_fences(page.read_text("utf-8"))
]


def test_the_readme_shows_python() -> None:
    assert any(str(snippet.id).startswith("README.md:") for snippet in SNIPPETS)


@pytest.mark.parametrize(("page", "fence"), SNIPPETS)
def test_a_snippet_runs(page: str, fence: Fence, tmp_path: Path, database_of: Callable[[str], str]) -> None:
    if fence.not_run:
        pytest.skip(fence.not_run)
    variables = {"DATABASE_URL": database_of(page)} if fence.postgres else {}
    ended = run_script(tmp_path, fence.text, variables=variables)
    assert ended.returncode == 0, ended.stderr
    if fence.output is not None:
        assert prints(fence.output, ended.stdout), f"it printed:\n{ended.stdout}"
