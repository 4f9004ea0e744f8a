"""The endings of one execution that bodies' own transactions commit, one after the other.

Each makes an item of its own, with what follows from it and nothing else: if it is not committed, nothing else is
lost. While it is in flight the driver decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from cloacina.engine.executors.attempt import Attempt, Ending

if TYPE_CHECKING:
    from cloacina.engine.driving.driver import Driver


class Settling:
    """See the module's text; made when there is one."""

    __slots__ = ("_roll_back", "_waiting")

    def __init__(self, roll_back: Callable[[Attempt], None]) -> None:
        """``roll_back`` is called with attempts whose transactions nobody will commit."""
        self._roll_back = roll_back
        self._waiting: list[tuple[Attempt, Ending]] = []

    def __bool__(self) -> bool:
        """True if some wait for their turn."""
        return bool(self._waiting)

    def add(self, attempt: Attempt, ending: Ending) -> None:
        """Have an ending settled by the transaction of ``attempt``."""
        self._waiting.append((attempt, ending))

    def write(self, driver: Driver, now: int) -> int:
        """Put the next one into the draft of ``driver``; return how many rows that has."""
        attempt, ending = self._waiting.pop(0)
        driver.settling = attempt
        driver.settle(attempt, ending, now)
        return driver.draft.rows

    def drop(self) -> None:
        """None of them is settled any more."""
        waiting, self._waiting = self._waiting, []
        for attempt, _ in waiting:
            self._roll_back(attempt)
