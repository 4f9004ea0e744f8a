"""The starts of bodies: none before the runner has renewed its lease, since others may have taken its work over."""

from __future__ import annotations

from collections.abc import Callable

from cloacina.clock import Clock
from cloacina.engine.executors.attempt import Attempt
from cloacina.engine.liveness.lease import Lease
from cloacina.observe.logs import fields_of, get_logger

log = get_logger("lease")


class Starts:
    """Starts attempts whose start was committed; those of a lease that is not fresh wait until it is."""

    def __init__(self, lease: Lease, start: Callable[[Attempt], None], clock: Clock, interval: float) -> None:
        self._lease = lease
        self._start = start
        self._clock = clock
        self._interval = interval
        self._held_back: list[Attempt] = []

    def start(self, attempt: Attempt) -> None:
        """Start a body, now or later; never, if the end of its attempt has been decided by then."""
        if self._lease.fresh():
            self._start(attempt)
            return
        log.warning("a body was not started: the runner's lease is not fresh", extra=fields_of(attempt))
        self._held_back.append(attempt)
        if len(self._held_back) == 1:
            self._look_later()

    def _look_later(self) -> None:
        self._clock.call_later(self._interval, self._look)

    def _look(self) -> None:
        self._held_back = [attempt for attempt in self._held_back if not (attempt.ended or attempt.closed)]
        if self._held_back and not self._lease.fresh():
            self._look_later()
            return
        held_back, self._held_back = self._held_back, []
        for attempt in held_back:
            self._start(attempt)
