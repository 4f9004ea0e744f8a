"""Pages name files that are there, and link to pages that are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from shape.source import ROOT

PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
NAMED = re.compile(r"`([\w.-]+(?:/[\w.-]+)+(?:\.\w+|/)|[\w-]+\.(?:py|md|toml))`")
LINK = re.compile(r"\]\((?!\w+:|#)([^)#\s]+)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    assert [link for link in LINK.findall(page.read_text("utf-8")) if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("folder", ["how-to", "explanation", "reference"])
def test_every_page_is_linked_from_the_readme(folder: str) -> None:
    linked = set(LINK.findall((ROOT / "README.md").read_text("utf-8")))
    assert {f"docs/{folder}/{page.name}" for page in (ROOT / "docs" / folder).glob("*.md")} - linked == set()


def test_every_example_has_a_line() -> None:
    linked = LINK.findall((ROOT / "examples" / "README.md").read_text("utf-8"))
    assert sorted(linked) == sorted(path.name for path in (ROOT / "examples").glob("*.py"))


def test_the_recipes_name_files_that_are_there() -> None:
    named = NAMED.findall((ROOT / "CONTRIBUTING.md").read_text("utf-8"))
    assert len(named) > 20
    homes = (ROOT, ROOT / "src" / "cloacina")
    assert [name for name in named if not any((home / name).exists() for home in homes)] == []
