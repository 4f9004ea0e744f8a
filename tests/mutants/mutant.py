"""A mutant: a bug, as a change of one place in the source."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src"


@dataclass(frozen=True)
class Mutant:
    """See the module's text."""

    name: str
    why: str
    """What would come of it, in a sentence."""
    file: str
    """The file that it changes, below the package."""
    old: str
    """A text that is there exactly once."""
    new: str
    tests: tuple[str, ...] = ()
    """What catches it where the simulator cannot, as arguments of pytest; if empty, the simulator must."""

    def changed(self, source: Path = SOURCE) -> str:
        """The file with the bug. Raises `LookupError` unless the text is there exactly once."""
        text = (source / "cloacina" / self.file).read_text()
        times = text.count(self.old)
        if times != 1:
            raise LookupError(
                f"mutant {self.name!r}: its text is {times} times in {self.file}; it must be there once: {self.old!r}"
            )
        return text.replace(self.old, self.new)


def copy_of_source(folder: Path, mutant: Mutant | None) -> Path:
    """Copy the source into ``folder``, with the bug of ``mutant`` if one is given; return where it is."""
    copy = folder / "src"
    shutil.copytree(SOURCE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    if mutant is not None:
        (copy / "cloacina" / mutant.file).write_text(mutant.changed())
    return copy
