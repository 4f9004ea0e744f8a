"""What the acceptance tests share: the nursery, and stages to play on."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from acceptance.support.child import Nursery
from acceptance.support.stage import Stage, Theatre

SEED = os.environ.get("CLOACINA_TEST_SEED")


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    nursery = Nursery()
    yield nursery
    nursery.close()


@pytest.fixture
def theatre(nursery: Nursery, tmp_path: Path) -> Theatre:
    return Theatre(nursery, tmp_path)


@pytest.fixture
def stage(theatre: Theatre) -> Iterator[Stage]:
    with theatre.stage("stage") as stage:
        yield stage


@pytest.fixture
def rng() -> random.Random:
    """Seeded by ``CLOACINA_TEST_SEED``, else anew; pytest shows the line if the test fails."""
    seed = int(SEED or random.SystemRandom().randrange(1_000_000))
    print(f"CLOACINA_TEST_SEED={seed}")
    return random.Random(seed)
