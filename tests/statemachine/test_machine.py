"""The machine on every database: model and reality agree after every step.

For hours, from the folder `tests`: ``python -m statemachine --where postgres --minutes 240 --first 1000``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from acceptance.support.campaign import campaign
from statemachine.machine import EngineMachine, machine_at
from statemachine.places import Place
from statemachine.running import run
from statemachine.situations import missing


@pytest.fixture
def happened() -> Iterator[Counter[str]]:
    """What comes about in this test."""
    EngineMachine.happened.clear()
    yield EngineMachine.happened
    EngineMachine.happened.clear()


@pytest.mark.parametrize(("where", "examples"), [("memory", 50), ("file", 50), ("postgres", 15)])
def test_model_and_reality_agree(
    where: str, examples: int, place_of: Callable[[str], Place], happened: Counter[str]
) -> None:
    run(machine_at(place_of(where)), examples)
    assert happened["steps"] >= 5 * examples, happened


@pytest.mark.parametrize(
    ("where", "examples"),
    [
        campaign("memory", 1_000, id="memory"),
        campaign("file", 1_500, id="file"),
        campaign("postgres", 1_000, id="postgres"),
    ],
)
def test_a_long_run_reaches_every_situation(
    where: str, examples: int, place_of: Callable[[str], Place], happened: Counter[str]
) -> None:
    for seed in range(examples // 50):
        run(machine_at(place_of(where)), 50, seed=seed)
    assert missing(happened, where) == [], happened
