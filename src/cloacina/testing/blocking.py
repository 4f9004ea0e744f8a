"""The blocking test runner: what `TestRunner` offers, for tests that are no coroutines."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from functools import partial
from os import PathLike

from cloacina.blocking import BlockingRunner
from cloacina.engine.executors.protocol import ExecutorFactory
from cloacina.model.routing.routing import RoutingRule
from cloacina.model.task import Task
from cloacina.model.workflow import Workflow
from cloacina.portal import OwnLoop
from cloacina.settings import Settings
from cloacina.store.payloads.payloads import Payloads
from cloacina.testing.bodies import Body
from cloacina.testing.recording import Recording
from cloacina.testing.runner import MEMORY, TestRunner


class BlockingTestRunner(BlockingRunner):
    """`TestRunner` for tests that block; its event loop runs on a thread of its own, as that of `BlockingRunner`.

    What is not described here is described there.
    """

    __test__ = False

    def __init__(
        self,
        *workflows: Workflow,
        url: str | PathLike[str] = MEMORY,
        settings: Settings | None = None,
        payloads: Payloads | None = None,
        routing: Iterable[RoutingRule] = (),
        executors: Mapping[str, ExecutorFactory] | None = None,
        patience: float = 10.0,
        now: int | None = None,
    ) -> None:
        self._hand = self._own = self._desk = TestRunner(
            *workflows,
            url=url,
            settings=settings,
            payloads=payloads,
            routing=routing,
            executors=executors,
            patience=patience,
            now=now,
        )
        self._portal = OwnLoop(partial(self._hand.shutdown, 0.0))

    def __enter__(self) -> BlockingTestRunner:
        self.start()
        return self

    def advance(self, seconds: float) -> None:
        """See `TestRunner.advance`."""
        self._portal.call(self._hand.advance, seconds)

    def fail(
        self,
        task: Task | str,
        *,
        times: float = 1,
        error: BaseException | type[BaseException] = RuntimeError,
        after: bool = False,
    ) -> None:
        """See `TestRunner.fail`."""
        self._hand.fail(task, times=times, error=error, after=after)

    def delay(self, task: Task | str, seconds: float, *, times: float = math.inf) -> None:
        """See `TestRunner.delay`."""
        self._hand.delay(task, seconds, times=times)

    def replace(self, task: Task | str, body: Body, *, times: float = math.inf) -> None:
        """See `TestRunner.replace`."""
        self._hand.replace(task, body, times=times)

    def starts(self, task: Task | str) -> int:
        """See `TestRunner.starts`."""
        return self._hand.starts(task)

    def record(self, id: str) -> Recording:
        """See `TestRunner.record`."""
        return self._portal.call(self._hand.record, id)

    def crash(self) -> None:
        """See `TestRunner.crash`."""
        self._portal.call(self._hand.crash)
