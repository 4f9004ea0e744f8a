"""Claims: when a runner looks for work that nobody owns."""

from __future__ import annotations

from typing import Any

import pytest

from cloacina.engine.claims import Claims
from cloacina.settings import Settings
from support.clock import HandClock


class Registered:
    def versions(self) -> tuple[tuple[str, str], ...]:
        return (("w", "v"),)


@pytest.mark.parametrize(("peers", "looks"), [(0, 0), (1, 1)])
def test_what_others_may_have_had_locked_is_looked_for_once_more(peers: int, looks: int) -> None:
    clock, poked = HandClock(), list[int]()
    nobody: Any = None
    registered: Any = Registered()
    claims = Claims(registered, nobody, clock, Settings(), lambda: poked.append(1), lambda: peers)
    for _ in range(2):
        request = claims.request(0, 0, False)
        if request is not None:
            claims.answered(request, 0)
        clock.advance(3600)
    assert len(poked) == looks
