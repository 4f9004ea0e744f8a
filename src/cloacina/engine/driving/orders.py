"""The orders to one driver: commands that are to take effect with its next item."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cloacina.model.status import CommandKind

if TYPE_CHECKING:
    from cloacina.engine.driving.driver import Driver


def _nobody(obeyed: bool) -> None:
    return None


@dataclass(frozen=True, slots=True)
class Order:
    """One command. ``id`` is that of its row, if it has one; ``done`` is told whether it was carried out."""

    kind: CommandKind
    id: str | None = None
    done: Callable[[bool], None] = _nobody


class Orders:
    """Those that wait for the next item, and those that the item in flight carries out."""

    __slots__ = ("_carried", "_waiting")

    def __init__(self) -> None:
        self._waiting: list[Order] = []
        self._carried: list[Order] = []

    def add(self, order: Order) -> bool:
        """Take an order; False if it is here already."""
        if order.id is not None and any(known.id == order.id for known in (*self._waiting, *self._carried)):
            return False
        self._waiting.append(order)
        return True

    def write(self, driver: Driver, now: int) -> None:
        """Carry out what is wanted of ``driver`` with the item that is being written."""
        taken, self._waiting = self._waiting, []
        self._carried += taken
        for order in taken:
            if order.id is not None:
                driver.draft.obey(order.id)
            if order.kind is CommandKind.PAUSE and not driver.paused:
                driver.paused = True
                driver.draft.pause(now)
            elif order.kind is CommandKind.RESUME and driver.paused:
                driver.paused = False
                driver.draft.resume(now)
                driver.offer_ready()

    def committed(self) -> None:
        """The item is durable."""
        carried, self._carried = self._carried, []
        for order in carried:
            order.done(True)

    def refused(self) -> None:
        """The item is lost: what it carried out must be done again."""
        self._waiting, self._carried = self._carried + self._waiting, []

    def drop(self) -> None:
        """The driver lets go of its execution: whoever asked must ask elsewhere."""
        for order in (*self._carried, *self._waiting):
            order.done(False)
        self._waiting, self._carried = [], []
