"""The quick tier of the crash campaign: each of its sections, in little, with nothing to complain of."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from acceptance.support.child import Nursery
from acceptance.support.ledger import Entry
from campaign.place import Place, Skipped
from campaign.play import SECTIONS
from campaign.recoveries import BILLION, recoveries
from campaign.sizes import QUICK
from support.postgres.server import PostgresServer

ONLY = {"power": "sqlite", "disk": "sqlite", "restarts": "postgres"}
"""Sections that are about one database."""
PLAYS = [
    (section, database)
    for section in SECTIONS
    for database in ("sqlite", "postgres")
    if ONLY.get(section, database) == database
]


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A server that may be hurt."""
    with closing(PostgresServer()) as server:
        yield server


@pytest.mark.parametrize(("section", "database"), PLAYS)
def test_nothing_forbidden_happens(
    section: str,
    database: str,
    nursery: Nursery,
    tmp_path: Path,
    rng: random.Random,
    request: pytest.FixtureRequest,
) -> None:
    server = request.getfixturevalue("server") if database == "postgres" else None
    with closing(Place(nursery, tmp_path, rng.randrange(1_000_000), server)) as place:
        try:
            print(SECTIONS[section](place, QUICK))
        except Skipped as why:
            pytest.skip(str(why))
        print(place.tally.line())
        assert place.tally.clean, "\n".join(place.tally.told)
        assert place.tally.acknowledged, "nothing was done"


def test_recovery_is_measured_from_the_kill_to_the_next_start_in_a_process_that_was_there() -> None:
    def entry(kind: str, *words: str, at: float) -> Entry:
        return Entry(kind, words, round(at * BILLION))

    told = [
        entry("up", "1", at=0),
        entry("up", "2", at=0),
        *[entry("start", execution, "t", "1", "1", at=1) for execution in "abcd"],
        entry("end", "d", "t", "1", "1", at=2),
        entry("killed", "1", at=3),
        entry("up", "3", at=3.5),
        entry("start", "a", "t", "2", "2", at=4),
        entry("start", "b", "t", "2", "3", at=5),
        entry("start", "c", "t", "2", "2", at=6.5),
        entry("start", "c", "u", "1", "2", at=9),
    ]
    assert recoveries(told) == [1.0, 3.5]
