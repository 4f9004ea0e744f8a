"""What the acceptance tests share: the nursery, and stages to play on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from acceptance.support.child import Nursery
from acceptance.support.stage import Stage, Theatre


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
