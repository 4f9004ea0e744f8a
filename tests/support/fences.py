"""Fences: the code blocks of a Markdown page, and what the page says of each."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass

OPENING = re.compile(r"(?P<indent>\s*)(?P<ticks>```+|~~~+)\s*(?P<language>[\w+-]*).*")
COMMENT = re.compile(r"\s*<!--\s*(?P<text>.*?)\s*-->\s*")


@dataclass
class Fence:
    """One ``python`` block: its first line's number, its text, why it is not run, what it prints, what it needs."""

    line: int
    text: str
    not_run: str | None = None
    output: str | None = None
    postgres: bool = False


def python_fences(page: str) -> list[Fence]:
    """Every Python block of a page.

    ``<!-- not run: reason -->`` on the line before a block, empty lines not counted, is its reason;
    ``<!-- postgres -->`` there asks for a server; a block after ``<!-- output -->`` is what the Python block before
    it prints, ``...`` standing for any text.
    """
    fences: list[Fence] = []
    for line, language, text, remark in _blocks(page):
        if remark == "output":
            if not fences:
                raise ValueError(f"line {line}: an output without a Python block before it")
            fences[-1].output = text
        elif language == "python":
            found = re.fullmatch(r"not run:\s*(.+)", remark)
            fences.append(Fence(line, text, found and found[1], postgres=remark == "postgres"))
    return fences


def prints(expected: str, printed: str) -> bool:
    """True if ``printed`` is what a page shows, but for space at the ends of lines and what ``...`` stands for."""
    pattern = re.escape("\n".join(line.rstrip() for line in expected.strip().splitlines()))
    found = "\n".join(line.rstrip() for line in printed.strip().splitlines())
    return re.fullmatch(pattern.replace(re.escape("..."), ".*?"), found, re.DOTALL) is not None


def _blocks(page: str) -> Iterator[tuple[int, str, str, str]]:
    """Line number, language and text of every block, and the comment before it."""
    remark = ""
    lines = iter(enumerate(page.splitlines(), 1))
    for number, line in lines:
        opening = OPENING.fullmatch(line)
        if opening is None:
            comment = COMMENT.fullmatch(line)
            if comment is not None or line.strip():
                remark = comment["text"] if comment else ""
            continue
        inside: list[str] = []
        for _, next_line in lines:
            if next_line.strip() == opening["ticks"]:
                break
            inside.append(next_line)
        else:
            raise ValueError(f"line {number}: the block does not end")
        yield number + 1, opening["language"], textwrap.dedent("\n".join(inside)) + "\n", remark
        remark = ""
