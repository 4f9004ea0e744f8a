"""The databases that the machine runs on."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cloacina.engine.liveness.server import observer
from statemachine.places import FilePlace, Place, ServerPlace, judge_at_once


@pytest.fixture
def place_of(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Place]:
    """The database of that name: memory, file or postgres."""

    monkeypatch.setattr(observer, "judge", judge_at_once)

    def place(name: str) -> Place:
        if name == "postgres":
            return ServerPlace(request.getfixturevalue("postgres"))
        return FilePlace() if name == "file" else Place()

    return place
