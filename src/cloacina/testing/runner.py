"""The test runner: a runner whose clock a test drives, so that waits of hours pass in no time."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from os import PathLike

from cloacina.desk import expect_completed
from cloacina.engine.executors.protocol import ExecutorFactory
from cloacina.errors import ExecutionStalled, ResultTimeout, ValidationError
from cloacina.model.result import ExecutionResult, moment
from cloacina.model.routing.routing import LOOP, THREADS, RoutingRule
from cloacina.model.task import Task
from cloacina.model.workflow import Workflow
from cloacina.observe.logs import running
from cloacina.runner import Runner
from cloacina.settings import Settings
from cloacina.store.payloads.payloads import Payloads
from cloacina.testing.bodies import Bodies, Body, Mishap, task_named, with_body
from cloacina.testing.hand.clock import HandClock
from cloacina.testing.hand.machine import HandMachine, Moment
from cloacina.testing.hand.stillness import Stillness
from cloacina.testing.recording import Recording, recorded

MEMORY = "sqlite://:memory:"

LOOKS = 1_000
"""Moves of the clock after which an execution counts as stalled if none of them led to a commit."""

_FOR_EVER = 1e9


class TestRunner(Runner):
    """A `Runner` for tests, on a database in memory unless ``url`` names an SQLite file.

    Its clock stands still and moves by hand: `advance` moves it, and `execute` and `result` move it by themselves as
    long as an execution waits for it. Then come retries, timeouts, and the looks of deferred tasks, one after the
    other. What a body does itself, such as a request or ``asyncio.sleep``, takes real time; the clock stands still
    meanwhile. Jitter draws the middle, nothing is pruned, and leaving it waits for no body.

    ``workflows`` are registered at the start. ``patience`` is how many seconds, of real time, a body may run before
    it counts as hanging. ``now`` is where the clock begins, in microseconds since 1970. The others are as for
    `Runner`. Raises `ValidationError` for arguments of another kind, and at the start for a database on a server.
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
        self.clock = HandClock(now=now, ticking=True, leap=0.0)
        self.bodies = Bodies(self.clock)
        self._patience = _seconds("patience", patience)
        super().__init__(
            url,
            workflows=workflows,
            settings=_by_hand(settings or Settings()),
            payloads=payloads,
            routing=routing,
            executors=executors,
            clock=self.clock,
            around_body=self.bodies.around,
        )

    async def __aenter__(self) -> TestRunner:
        await self.start()
        return self

    async def start(self) -> None:
        self._engine.machine = self.machine = HandMachine(self.clock)
        self._stillness = Stillness(self._engine, self.machine, self.bodies, self._patience)
        self._turn = asyncio.Lock()
        await super().start()
        await self._stillness.reached()

    async def shutdown(self, grace: float | None = None) -> None:
        self.bodies.close()
        await super().shutdown(grace)

    # Time.

    @property
    def now(self) -> datetime:
        """The time on the clock, in UTC."""
        return moment(self.clock.now())

    async def advance(self, seconds: float) -> None:
        """Move the clock on by so many seconds, and let everything happen that is due on the way.

        Bodies that run are waited for first, for the runner's ``patience`` at most. Raises `ValidationError` for what
        is no number of seconds.
        """
        micros = round(_seconds("advance", seconds) * 1e6)
        async with self._turn:
            await self._stillness.reached()
            end = self.clock.now() + micros
            while (due := self.clock.next_due) is not None and due <= end:
                self.clock.move_to(due)
                await self._stillness.reached()
            self.clock.move_to(end)
            await self._stillness.reached()

    async def execute(
        self,
        workflow: Workflow | str,
        input: object = None,
        *,
        key: str | None = None,
        priority: int = 0,
        tags: Sequence[str] = (),
        timeout: float | None = None,
        raise_on_failure: bool = False,
    ) -> ExecutionResult:
        """Submit, and move the clock until the execution is over: see `Runner.execute` and `result`."""
        if running.get() is not None:  # a body starts a child: whoever waits for the body moves the clock
            return await super().execute(
                workflow, input, key=key, priority=priority, tags=tags, timeout=timeout,
                raise_on_failure=raise_on_failure,
            )  # fmt: skip
        handle = await self.submit(workflow, input, key=key, priority=priority, tags=tags)
        result = await self.result(handle.id, timeout)
        return expect_completed(result) if raise_on_failure else result

    async def result(self, id: str, timeout: float | None = None) -> ExecutionResult:
        """Move the clock until the execution ``id`` is over, ``timeout`` seconds on the clock at most.

        Raises `ExecutionStalled` if that does not end it: it waits for something outside, such as a ``resume``, a
        condition that never holds, or a body that does not end. Raises `ResultTimeout` and the others as
        `Runner.result` does.
        """
        if running.get() is not None:
            return await super().result(id, timeout)
        until = None if timeout is None else self.clock.now() + round(_seconds("timeout", timeout) * 1e6)
        waiting = asyncio.ensure_future(super().result(id))
        idle, seen = 0, self.machine.commits
        try:
            while True:
                async with self._turn:
                    hanging = await self._stillness.reached()
                    if waiting.done():
                        return await waiting
                    self._engine.check()
                    if hanging:
                        raise ExecutionStalled(self._hanging(id, hanging))
                    idle = idle + 1 if self.machine.commits == seen else 0
                    seen = self.machine.commits
                    due = self.clock.next_due
                    if due is None or idle > LOOKS:
                        raise ExecutionStalled(await self._stalled(id, idle))
                    if until is not None and due > until:
                        self.clock.move_to(until)
                        raise ResultTimeout(f"execution {id} has not ended in {timeout}s on the clock")
                    self.clock.move_to(due)
        finally:
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)

    # Mishaps.

    def fail(
        self,
        task: Task | str,
        *,
        times: float = 1,
        error: BaseException | type[BaseException] = RuntimeError,
        after: bool = False,
    ) -> None:
        """Let the next ``times`` attempts of a task fail with ``error``, in place of its body.

        With ``after``, the body runs first, and fails when it has done its work. ``math.inf`` is for ever. Raises
        `ValidationError` if no workflow of this runner has the task, or its body runs elsewhere.
        """
        if not isinstance(error, BaseException) and not (
            isinstance(error, type) and issubclass(error, BaseException)  # pyright: ignore[reportUnnecessaryIsInstance]
        ):
            raise ValidationError(f"fail: error={error!r:.80} is no exception: give one, or a class of them")
        self._befall("fail", task, Mishap(_times("fail", times), error=error, after=after))

    def delay(self, task: Task | str, seconds: float, *, times: float = math.inf) -> None:
        """Let the next ``times`` attempts of a task take so many seconds on the clock before their body begins.

        Its timeout counts them. Raises as `fail` does.
        """
        self._befall("delay", task, Mishap(_times("delay", times), seconds=_seconds("delay", seconds)))

    def replace(self, task: Task | str, body: Body, *, times: float = math.inf) -> None:
        """Let the next ``times`` attempts of a task run another body, with the same rights and duties.

        For an ``async def`` body it may be either kind, for a ``def`` body it is a ``def``. Raises as `fail` does.
        """
        if not callable(body):  # pyright: ignore[reportUnnecessaryComparison]
            raise ValidationError(f"replace: {body!r:.80} cannot be called: give a function as for a task")
        self._befall("replace", task, Mishap(_times("replace", times), body=body))

    def starts(self, task: Task | str) -> int:
        """How often bodies of a task really began, repetitions after a crash included."""
        return self.bodies.starts[task_named(task, self._known(), "starts")]

    async def record(self, id: str) -> Recording:
        """The execution ``id`` as it is stored now, for `replay`. Raises `ExecutionNotFound`."""
        self._engine.check()
        return await self._engine.means.reader.run(lambda store: recorded(store, id))

    # Crashes.

    async def crash(self) -> None:
        """Die here and now, as by ``kill -9``: nothing more is written, and the next runner finds what is stored.

        The process goes on. So ``async`` bodies are cancelled where they are, and ``def`` bodies run to their end,
        of which nobody hears. Makes sense on a file only.
        """
        if self._engine.open:
            self.machine.die()
            self.bodies.close()
            await self._engine.abandon()
            loop = asyncio.get_running_loop()
            end = loop.time() + self._patience
            while not self.bodies.empty and loop.time() < end:  # noqa: ASYNC110  # they end on threads
                await asyncio.sleep(0.001)

    def crash_at(self, commit: int, moment: Moment) -> None:
        """Die just before or just after commit number ``commit``, counted from now; call `crash` then."""
        self.machine.die_at(self.machine.commits + commit, moment)

    # Within.

    def _known(self) -> list[Workflow]:
        return [*{id(one): one for one in (*self._workflows, *self._engine.registry.all())}.values()]

    def _befall(self, verb: str, task: Task | str, mishap: Mishap) -> None:
        name = task_named(task, self._known(), verb)
        for workflow in self._known():
            for one in workflow.tasks:
                if one.id == name:
                    self._check_reach(verb, workflow, one)
                    if mishap.body is not None:
                        with_body(one, mishap.body)
        self.bodies.befall(name, mishap)

    def _check_reach(self, verb: str, workflow: Workflow, task: Task) -> None:
        routes = self._engine.registry.routes.get(workflow.name)
        where = None if routes is None else routes[workflow.dag.index[task.id]]
        if where not in (None, LOOP, THREADS):
            raise ValidationError(
                f"{verb}({task.id!r}): its body runs in executor {where!r}, where a test cannot reach it: route it to "
                '"local" in the test, with routing=[RoutingRule("*", "local")]'
            )

    def _hanging(self, id: str, hanging: list[str]) -> str:
        return (
            f"execution {id} does not end: {', '.join(hanging)} has run for {self._patience}s of real time, and the "
            "clock stands still meanwhile: give TestRunner more patience=, replace() the body, or delay() it in place "
            "of a wait of its own"
        )

    async def _stalled(self, id: str, idle: int) -> str:
        why = str(await self.explain(id))
        looked = (
            f"after {idle} looks at conditions that never held" if idle > LOOKS else "however the clock moves"
        )
        return f"the execution waits for something outside, {looked}:\n{why}"

    def __repr__(self) -> str:
        return f"Test{super().__repr__()}"


def _by_hand(settings: Settings) -> Settings:
    """``settings`` with which nothing depends on real time, and nothing is removed."""
    return replace(
        settings, lease=_FOR_EVER, loop_block_limit=_FOR_EVER, shutdown_grace=0.0,
        keep_completed_days=0.0, keep_failed_days=0.0,
    )  # fmt: skip


def _seconds(what: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ValidationError(f"{what}: {value!r:.80} is no number of seconds: give one from 0 on")
    return float(value)


def _times(verb: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 1:
        raise ValidationError(f"{verb}: times={value!r:.80} must be 1 or more, or math.inf")
    return float(value)
