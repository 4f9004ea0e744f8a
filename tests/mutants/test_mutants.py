"""The table of mutants does not rot: each still changes one place of the source into something that compiles.

That they are caught is shown by the command: `python -m mutants`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from mutants.__main__ import MUTANTS
from mutants.mutant import Mutant, copy_of_source

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_it_changes_one_place(mutant: Mutant) -> None:
    compile(mutant.changed(), mutant.file, "exec")
    for test in mutant.tests[:1]:
        assert (ROOT / test).exists()


def test_names_are_unique() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= 20


def test_a_text_that_is_not_there_once_is_refused() -> None:
    for old in ("nowhere to be found", "import"):
        with pytest.raises(LookupError, match="it must be there once"):
            Mutant("m", "", "engine/committer.py", old, "").changed()


def test_a_copy_differs_in_one_file(tmp_path: Path) -> None:
    mutant = MUTANTS[0]
    mutated = copy_of_source(tmp_path / "mutated", mutant)
    original = copy_of_source(tmp_path / "original", None)
    changed = [
        str(path.relative_to(original / "cloacina"))
        for path in original.rglob("*")
        if path.is_file() and path.read_bytes() != (mutated / path.relative_to(original)).read_bytes()
    ]
    assert changed == [mutant.file]
