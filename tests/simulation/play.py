"""A play: a plan carried out, from its beginning until everything is over or a promise is broken."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import logging
import shutil
import sys
import tempfile
import traceback
import warnings
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from cloacina import Settings
from cloacina.engine.liveness.server import presence
from cloacina.errors import CloacinaError, CommandTimeout
from cloacina.model import ids
from simulation import bodies
from simulation.conduct import Conduct
from simulation.disk import Change, Disk
from simulation.loop import START, Process, Stalled, VirtualLoop, here
from simulation.machine import SimulatedClock
from simulation.place import Place
from simulation.plan import Ask, Order, Plan
from simulation.referee import Referee
from simulation.server import LOCATION, Server, SimulatedSession
from simulation.verdict import final_verdict

LONGEST = 900.0
"""Seconds after the last blow within which everything must be over."""

LAST_LINES = 400


@dataclass
class Report:
    """What came of a play."""

    plan: Plan
    broken: list[str] = field(default_factory=list)
    """The promises that were broken, in words."""
    situations: Counter[str] = field(default_factory=Counter)
    """How often each rare situation came about."""
    digest: str = ""
    """The same for the same trace."""
    lines: list[str] = field(default_factory=list)
    """The end of the trace."""
    seconds: float = 0.0
    """How much time went by in it."""
    executions: int = 0
    commits: int = 0


def play(plan: Plan) -> Report:
    """Carry out ``plan``."""
    folder = Path(
        tempfile.mkdtemp(prefix="simulation-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None)
    )
    try:
        with _drawn_ids(plan.seed), _no_garbage():
            return Play(plan, folder).run()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Play:
    """See the module's text."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        self.plan = plan
        self.report = Report(plan)
        self.loop = VirtualLoop(lambda text: self.broken(f"nobody caught an error: {text}"))
        self.referee = Referee(self.broken, self.happened, int(plan.settings["async_slots"]))
        self.referee.conduct = Conduct(self.referee, plan, self.loop.time, self.broken)
        self.disk = Disk(self._committed, self.happened)
        self._last_job: tuple[Process | None, int] = (None, 0)
        self.settings = Settings(**plan.settings)  # type: ignore[arg-type]
        self.generations = [[bodies.built(one) for one in generation] for generation in plan.generations]
        for workflow in (one for generation in self.generations for one in generation):
            self.referee.workflows[workflow.name, workflow.version] = workflow
        self.server = Server(self.loop, self.disk)
        self.location = LOCATION if plan.on_server else None
        leases = None if plan.on_server else folder
        self.places = [
            Place(self, number, leases, Random(f"{plan.seed} {number}")) for number in range(plan.places)
        ]
        self.acknowledged: dict[int, list[str]] = {}
        """The executions that were acknowledged for each ask, by its number."""
        self.runs_in: dict[str, Process] = {}
        """In which process each runner lives."""
        self.told: dict[str, str] = {}
        """The status that somebody was told as the result of an execution."""
        self._digest = hashlib.blake2b(digest_size=12)
        self._lines: deque[str] = deque(maxlen=LAST_LINES)
        self._watching: set[asyncio.Task[None]] = set()

    def run(self) -> Report:
        """Carry out the plan, and say what came of it."""
        report = self.report
        token = bodies.referees.set(self.referee)
        handler = logging.Handler(logging.WARNING)
        handler.addFilter(self.logged)
        logger = logging.getLogger("cloacina")
        logger.addHandler(handler)
        logger.propagate = False
        try:
            with _sessions_of(self.server):
                self.loop.run(self._main())
        except Stalled as error:
            if not report.broken:
                report.broken.append(f"the simulation stalled: {error}")
        except Exception:
            report.broken.append(f"the simulation itself failed: {traceback.format_exc()}")
        finally:
            bodies.referees.reset(token)
            logger.removeHandler(handler)
            logger.propagate = True
            for place in self.places:
                place.bury()
        report.digest, report.lines = self._digest.hexdigest(), list(self._lines)
        report.seconds = self.loop.time() - START
        report.executions, report.commits = len(self.referee.executions), self.disk.commits
        return report

    # What happens.

    def logged(self, record: logging.LogRecord) -> bool:
        """The engine had something to say."""
        self.happened(f"logged: {record.msg}")
        process = here.get()
        if record.msg.startswith("the runner could not be stored as stopped") and process is not None:
            process.excused = True  # it said itself that others will find it dead
        return False

    def happened(self, what: str) -> None:
        """A rare situation came about."""
        self.report.situations[what] += 1

    def broken(self, promise: str) -> None:
        """A promise was broken: nothing that follows means anything."""
        self.note(f"BROKEN {promise}")
        self.report.broken.append(f"at {self.loop.time() - START:.3f}s: {promise}")
        self.loop.halted = True

    def note(self, *words: object) -> None:
        """Add a line to the trace."""
        line = f"{self.loop.time() - START:.6f} " + " ".join(map(str, words))
        self._digest.update(line.encode())
        self._lines.append(line)

    def _committed(self, process: Process | None, name: str, changes: list[Change]) -> None:
        self.note(process, "commits", name, *map(shown, changes))
        if name == "register_runner" and process is not None:
            self.runs_in.update((after[0], process) for _, _, after in changes if after is not None)
        job = (process, 0 if process is None else self.disk.jobs[process.name])
        if process is not None and job == self._last_job:
            self.broken(f"{process} does {name} in more than one transaction")
        self._last_job = job
        self.referee.commit(process, name, changes)
        if name == "recover":
            for table, before, after in changes:
                if table == "runners" and before is not None and after is not None:
                    self._check_death(process, after[0])

    def just_thawed(self, process: Process) -> bool:
        """True if it may still have to give up a lease that ran out while it was frozen."""
        return self.loop.time() - process.thawed <= 2 * self.settings.lease

    def _check_death(self, by: Process | None, runner: str) -> None:
        """Nobody may declare a runner dead whose process lives and did all that it should."""
        lives = self.runs_in.get(runner)
        if lives is None or lives is by or lives.dead or lives.frozen or lives.excused:
            return
        if not self.just_thawed(lives):
            self.broken(f"{by} declared runner {runner} dead, which lives in {lives}")

    # From the beginning to the end.

    async def _main(self) -> None:
        for place in self.places:
            place.begin()
        events: list[tuple[float, int, Callable[[], object]]] = []
        plan = self.plan
        for number, ask in enumerate(plan.asks):
            events.append((ask.at, len(events), lambda n=number, ask=ask: self._ask(n, ask)))  # type: ignore[misc]
        for order in plan.orders:
            events.append((order.at, len(events), lambda order=order: self._order(order)))  # type: ignore[misc]
        for blow in plan.blows:
            events.append((blow.at, len(events), lambda blow=blow: self.places[blow.place].suffer(blow)))  # type: ignore[misc]
        for at, _, event in sorted(events, key=lambda one: one[:2]):
            await asyncio.sleep(max(0.0, START + at - self.loop.time()))
            event()
        for place in self.places:
            await place.recovered()
        self.note("all is well from here")
        await self._until_over()
        for place in self.places:
            await place.end()
        final_verdict(self)

    def _ask(self, number: int, ask: Ask) -> None:
        place = self.places[ask.place]
        if ask.key is not None and ask.key.startswith("again"):
            self._watch(place.insist(lambda: self._submit(place, number, ask)))
        else:
            place.do(lambda: self._submit(place, number, ask))

    async def _submit(self, place: Place, number: int, ask: Ask) -> None:
        runner = place.live_runner()
        input = {"ask": number, "flag": ask.flag, "log": [], "tree": {}}
        workflow = ask.workflow
        if ask.many:
            handles = await runner.submit_many(workflow, [input] * ask.many)
        else:
            handles = [await runner.submit(workflow, input, key=ask.key)]
        acknowledged = [handle.id for handle in handles]
        self.note(place.process, "acknowledged", number, acknowledged)
        for id in acknowledged:
            if id not in self.referee.executions:
                self.broken(f"execution {id} was acknowledged and is not there")
        before = self.acknowledged.setdefault(number, acknowledged)
        if before != acknowledged:
            self.broken(f"ask {number} was acknowledged as {before} and as {acknowledged}")
        if ask.wait:
            for handle in handles:
                self._tell(handle.id, (await handle.result()).status)

    def _tell(self, id: str, status: str) -> None:
        self.note("told", id, status)
        row = self.referee.executions[id]
        if row.status != status:
            self.broken(f"somebody was told that {row} is {status}")
        self.told[id] = status

    def _order(self, order: Order) -> None:
        place = self.places[order.place]
        place.do(lambda: self._command(place, order))

    async def _command(self, place: Place, order: Order) -> None:
        runner = place.live_runner()
        for id in self.acknowledged.get(order.ask, ()):
            if order.kind == "retry":
                with suppress(CloacinaError):
                    await runner.retry(id)
                continue
            try:
                status = await getattr(runner, order.kind)(id)
            except CloacinaError as error:
                self.happened(f"{order.kind} was refused: {type(error).__name__}")
                if isinstance(error, CommandTimeout) and not (self.plan.blows or self.plan.trips):
                    self.broken(f"nobody carried out {order}, and nothing was in the way: {error}")
                continue
            self.note(place.process, order.kind, id, "is", status)
            self.happened(f"{order.kind} found it {status}")
            self._check_effect(order.kind, id, status)

    def _check_effect(self, kind: str, id: str, status: str) -> None:
        row = self.referee.executions[id]
        if kind == "cancel" and not row.over:
            self.broken(f"a cancel was acknowledged ({status}), and it is {row}")

    def _watch(self, work: Coroutine[Any, Any, None]) -> None:
        task = self.loop.create_task(work)
        self._watching.add(task)
        task.add_done_callback(self._watching.discard)

    async def _until_over(self) -> None:
        """Resume what is paused, and wait until everything has ended or says why it cannot."""

        def over() -> bool:
            for row in self.referee.executions.values():
                if row.status == "paused":
                    self.places[0].do(lambda id=row.id: self._resume(id))  # type: ignore[misc]
            busy = self._watching or any(place.busy for place in self.places)
            return not (busy or self._undead()) and all(
                row.over or row.status == "parked" for row in self.referee.executions.values()
            )

        await self._until(over, "something does not go on")

    def _undead(self) -> list[str]:
        """The runners that count as alive though their process is dead."""
        return [
            id for id, row in self.referee.runners.items() if row.state == "alive" and self.runs_in[id].dead
        ]

    async def _resume(self, id: str) -> None:
        with suppress(CloacinaError):
            await self.places[0].live_runner().resume(id)

    async def _until(self, holds: Callable[[], bool], what: str) -> None:
        end = self.loop.time() + LONGEST
        while not holds():
            if self.loop.time() > end:
                live = [row for row in self.referee.executions.values() if not row.over]
                tasks = [self.referee.tasks[row.id] for row in live]
                self.broken(f"{what}: undead {self._undead()}, live {live}, attempts {tasks}")
            await asyncio.sleep(0.5)


def shown(change: Change) -> str:
    """A change in short: the row's new values, those that changed, or that it is gone. Without processes' numbers."""
    table, before, after = change
    row = after or before or ()
    if table == "runners":
        row = row[:1] + row[4:]
    if after is None:
        return f"{table} - {row[:3]}"
    if before is None:
        return f"{table} + {row}"
    key = 3 if table == "attempts" else 1
    changed = [f"{was!r} > {now!r}" for was, now in zip(before, after, strict=True) if was != now]
    return f"{table} {row[:key]} {', '.join(changed)}"


@contextmanager
def _no_garbage() -> Iterator[None]:
    """Collect what a play leaves behind when it is over: dead processes' code must not run in the middle of another."""
    gc.freeze()  # what is there already is nobody's garbage meanwhile
    gc.disable()
    before, sys.unraisablehook = sys.unraisablehook, lambda _: None
    try:
        yield
    finally:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            gc.enable()
            for _ in range(3):  # what is finalized may leave more behind
                gc.collect()
            gc.unfreeze()
        sys.unraisablehook = before


@contextmanager
def _sessions_of(server: Server) -> Iterator[None]:
    """Let sessions be those of the simulated server."""

    def session(_: object, clock: SimulatedClock, __: object) -> SimulatedSession:
        return SimulatedSession(server, clock.machine)

    before, presence.ServerSession = presence.ServerSession, session  # type: ignore[misc,assignment]
    try:
        yield
    finally:
        presence.ServerSession = before  # type: ignore[misc]


@contextmanager
def _drawn_ids(seed: int) -> Iterator[None]:
    """Let ids be drawn from the seed."""
    before, last = ids.entropy, ids._last
    ids.entropy, ids._last = Random(f"ids {seed}").randbytes, 0
    try:
        yield
    finally:
        ids.entropy, ids._last = before, last
