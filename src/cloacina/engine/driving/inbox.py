"""The inbox of a runner: commands that others left for it, until the drivers of their executions have them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cloacina.engine.driving.orders import Order
from cloacina.model.status import CommandKind
from cloacina.store.rows import Command


class Inbox:
    """Has what was read last. Some of it may be for executions that are just being claimed."""

    def __init__(self) -> None:
        self._orders: dict[str, list[Order]] = {}

    def receive(self, commands: Sequence[Command]) -> None:
        """These are all that are left now."""
        self._orders = {}
        for command in commands:
            order = Order(CommandKind(command.kind), command.id)
            self._orders.setdefault(command.execution, []).append(order)

    def executions(self) -> list[str]:
        """The executions that they are for."""
        return list(self._orders)

    def hand_over(self, execution: str, obey: Callable[[Order], None]) -> None:
        """Give those for an execution to its driver, if there are any."""
        for order in self._orders.pop(execution, ()):
            obey(order)
