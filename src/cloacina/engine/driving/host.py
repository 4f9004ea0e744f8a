"""The host of drivers: what a driver needs of the runner that owns it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from cloacina.clock import Clock, Randomness
from cloacina.engine.executors.attempt import Attempt
from cloacina.model.json.values import Limits
from cloacina.model.result import ErrorInfo
from cloacina.model.status import TaskState

if TYPE_CHECKING:
    from cloacina.engine.bodies.courier import Courier
    from cloacina.engine.driving.driver import Driver


class Host(Protocol):
    """What a driver needs of the runner that owns it."""

    runner: str
    clock: Clock
    randomness: Randomness
    limits: Limits
    crash_cap: int
    courier: Courier

    def hear(self, driver: Driver) -> None:
        """Let the driver digest with the next group."""
        ...

    def offer(self, driver: Driver, index: int) -> None:
        """Queue a ready task for a slot."""
        ...

    def release(self, attempt: Attempt) -> None:
        """An attempt has ended; its slot is free."""
        ...

    def refuse_grant(self, driver: Driver, index: int) -> None:
        """A granted slot is not used."""
        ...

    def launch(self, attempt: Attempt) -> None:
        """Start a body whose start is committed."""
        ...

    def roll_back(self, attempt: Attempt) -> None:
        """An attempt has ended well whose transaction nobody will commit."""
        ...

    def cut(self, attempt: Attempt) -> None:
        """Tell a body to stop whose result is refused from now on."""
        ...

    def task_ended(self, driver: Driver, index: int, state: TaskState, error: ErrorInfo | None) -> None:
        """A task has ended for good, committed."""
        ...

    def gone(self, driver: Driver) -> None:
        """The driver has nothing more to do: its execution ended, was parked, or was stored away."""
        ...
