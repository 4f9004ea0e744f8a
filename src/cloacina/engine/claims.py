"""The claims of a runner: when it asks for unowned executions, and for how many."""

from __future__ import annotations

from collections.abc import Callable

from cloacina.clock import Clock, Timer
from cloacina.engine.registry import Registry
from cloacina.engine.storage.store_thread import StoreThread
from cloacina.settings import Settings
from cloacina.store.port import ReadStore
from cloacina.store.rows import ClaimRequest


class Claims:
    """Knows whether there may be work to claim; ``poke`` asks for a group that claims it.

    ``peers`` tells how many other runners are alive, as far as is known: what waits is theirs too.
    """

    def __init__(
        self,
        registry: Registry,
        reader: StoreThread[ReadStore],
        clock: Clock,
        settings: Settings,
        poke: Callable[[], None],
        peers: Callable[[], int],
    ) -> None:
        self._registry = registry
        self._reader = reader
        self._clock = clock
        self._window = settings.window
        self._slots = settings.async_slots + settings.thread_slots + settings.process_slots
        self._peers = peers
        self._second_look: Timer | None = None
        self._is_second = False
        self._pause = settings.poll_interval
        self._poke = poke
        self._alarm: tuple[int, Timer] | None = None
        self._closed = False
        self._again = False
        self._sleepers = False
        self.unowned_work = True
        """True if there may be executions to claim: until a claim finds fewer than it asked for."""

    def look_for_work(self) -> None:
        """There may be unowned executions: claim with the next group."""
        self.unowned_work = self._again = True
        self._poke()

    def expect_sleepers(self) -> None:
        """There may be unowned executions that wait for their time: learn when the first is due.

        Those that are due now are claimed before that, else it would be one of them.
        """
        self._sleepers = True
        if not self.unowned_work:
            self._ask()

    def wake_up_at(self, moment: int) -> None:
        """An unowned execution is due at ``moment``, in microseconds."""
        if self._closed:
            return
        if self._alarm is not None:
            if self._alarm[0] <= moment:
                return
            self._alarm[1].cancel()
        delay = max(0.0, (moment - self._clock.now()) / 1e6)
        self._alarm = (moment, self._clock.call_later(delay, self._wake_up))

    def request(self, now: int, active: int, tasks_wait: bool) -> ClaimRequest | None:
        """What to claim now, with ``active`` executions in the window, or None.

        While ready tasks wait for slots there is no hurry: then it asks once a quarter of the window is free. Beside
        other runners nothing is claimed that could not run at once, and not all of it in one go.
        """
        shared = self._peers() > 0
        window = min(self._window, self._slots) if shared else self._window
        free, quarter = window - active, max(window // 4, 1)
        versions = self._registry.versions()
        if not self.unowned_work or self._closed or not versions or free <= 0:
            return None
        if tasks_wait and (shared or free < quarter):
            return None
        self._again = False
        return ClaimRequest(versions, min(free, quarter) if shared else free, now)

    def answered(self, request: ClaimRequest, found: int | None) -> None:
        """A claim found so many executions; None if the store refused to say."""
        self.unowned_work = self._again or (found or 0) >= request.limit
        second, self._is_second = self._is_second, False
        # Others may have had locked what they did not take in the end.
        in_doubt = found is None or (self._peers() > 0 and not second)
        if in_doubt and not self.unowned_work and self._second_look is None:
            self._second_look = self._clock.call_later(self._pause, self._look_again)
        if self._sleepers and not self.unowned_work:
            self._ask()

    def close(self) -> None:
        """Claim nothing any more."""
        self._closed = True
        for timer in (self._second_look, None if self._alarm is None else self._alarm[1]):
            if timer is not None:
                timer.cancel()

    def _look_again(self) -> None:
        self._second_look, self._is_second = None, True
        self.look_for_work()

    def _ask(self) -> None:
        def learn(wake_at: int | None, error: BaseException | None) -> None:
            if wake_at is not None:
                # What is overdue after a claim is another runner's, or became due meanwhile. No spinning.
                now = self._clock.now()
                self.wake_up_at(wake_at if wake_at > now else now + round(self._pause * 1e6))

        self._sleepers = False
        versions = self._registry.versions()
        self._reader.call(lambda store: store.next_wake_up(versions), learn)

    def _wake_up(self) -> None:
        self._alarm = None
        self.look_for_work()
        self.expect_sleepers()
