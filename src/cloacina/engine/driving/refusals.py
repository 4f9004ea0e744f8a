"""What becomes of an item that the store refuses for good.

The first time, its driver goes back to what is stored and settles again: attempts that had ended are failed
with the store's error. The second time the execution is parked, where its reader sees why. If even that is
refused, the execution is dropped, and the log says so.
"""

from __future__ import annotations

from collections.abc import Callable

from cloacina.engine.driving.driver import Driver
from cloacina.engine.executors.attempt import Ending
from cloacina.engine.storage.store_thread import StoreThread
from cloacina.errors import StoreRefused
from cloacina.model.status import AttemptState
from cloacina.observe.logs import get_logger
from cloacina.store.port import ReadStore
from cloacina.store.rows import StoredExecution

log = get_logger("refusals")


class Refusals:
    """The refusals of one runner. ``dropped`` is called with a driver that has nothing more to do."""

    def __init__(
        self, runner: str, reader: StoreThread[ReadStore], dropped: Callable[[Driver], None]
    ) -> None:
        self._runner = runner
        self._reader = reader
        self._dropped = dropped
        self.given_up: dict[str, str] = {}
        """Executions that are stored as this runner's and have no driver any more, each with the reason."""

    def handle(self, driver: Driver, error: StoreRefused) -> None:
        """The item of ``driver`` was refused."""
        driver.refusals += 1
        driver.held = True
        log.error("the store refused what an execution wrote: %s", error, extra={"execution": driver.id})
        if driver.refusals == 1:
            self.go_back(driver, Ending(AttemptState.FAILED, error=error))
        elif driver.refusals == 2:
            self._park(driver, error)
        else:
            log.error("the execution is given up", extra={"execution": driver.id})
            self.given_up[driver.id] = (
                f"execution {driver.id} is given up by this runner, and the next one goes on with it: {error}"
            )
            driver.drop()
            self._dropped(driver)

    def go_back(self, driver: Driver, ending: Ending) -> None:
        """Nothing of the item of ``driver`` is stored: let it go on from what is; what had ended ends as ``ending``."""
        driver.held = True

        def back(stored: StoredExecution | None, failure: BaseException | None) -> None:
            if driver.over:
                return
            try:
                if stored is None or stored.owner != self._runner:
                    raise StoreRefused(f"execution {driver.id} is not this runner's") from failure
                driver.refused(stored, ending)
            except Exception as broken:
                self._park(driver, broken)

        self._reader.call(lambda store: store.execution(driver.id), back)

    def _park(self, driver: Driver, error: BaseException) -> None:
        driver.refusals = 2
        driver.park(f"the store refused what it wrote: {error}")
