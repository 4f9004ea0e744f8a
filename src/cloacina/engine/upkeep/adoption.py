"""Adoption: a runner looks for executions whose version nobody has, and takes them over or sets them aside.

It looks when something happened that can leave such executions behind: at its start, when a workflow is
registered, after a runner died or another process wrote. Each change is one guarded statement, so that of
several runners exactly one adopts, and none takes what a live runner still offers.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import methodcaller

from cloacina.clock import Clock
from cloacina.engine.storage.store_thread import StoreThread
from cloacina.errors import WorkflowError
from cloacina.logic.adoption import Succession, Touched
from cloacina.model.dag.outline import Outline, short
from cloacina.model.status import AttemptState, ExecutionStatus
from cloacina.model.workflow import Workflow
from cloacina.observe.logs import get_logger
from cloacina.store.port import ReadStore, WriteStore
from cloacina.store.rows import InFlight, LastAttempt, Rewrite

log = get_logger("adoption")

BATCH = 500
"""How many executions are looked into with one query, and rewritten in one transaction."""

_ENDED = frozenset({AttemptState.COMPLETED, AttemptState.SKIPPED, AttemptState.CANCELLED})
_FAILED = frozenset({AttemptState.FAILED, AttemptState.TIMED_OUT})


class Adoption:
    """The looks of one engine: see the module's text.

    ``workflows`` gives those that the runner has registered. ``found`` is called when there is something to claim,
    ``aside`` with each execution that was set aside and why.
    """

    def __init__(
        self,
        workflows: Callable[[], Sequence[Workflow]],
        writer: StoreThread[WriteStore],
        reader: StoreThread[ReadStore],
        clock: Clock,
        *,
        found: Callable[[], None],
        aside: Callable[[str, str], None],
    ) -> None:
        self._workflows = workflows
        self._writer = writer
        self._reader = reader
        self._clock = clock
        self._found = found
        self._aside = aside
        self._successions: dict[tuple[str, str], Succession] = {}
        self._refused: set[str] = set()
        """Executions that are set aside and cannot be adopted: they need no second look."""
        self._looking = asyncio.Lock()
        self.due = False
        """True if something happened since the last look."""
        self.me = ""
        """The id of this process's own runner."""

    async def tick(self) -> None:
        """Look if something happened since the last time."""
        if self.due:
            await self.look()

    async def look(self) -> None:
        """Take over, or set aside, every execution whose version nobody has and whose workflow this runner has."""
        async with self._looking:
            self.due = False
            own = {workflow.name: workflow for workflow in self._workflows() if workflow.on_version != "pin"}
            versions = [(name, workflow.version) for name, workflow in own.items()]
            seen: set[str] = set()
            while versions:
                rows = await self._reader.run(
                    methodcaller("stranded", versions, sorted(self._refused), BATCH)
                )
                fresh = [row for row in rows if row.id not in seen]
                seen.update(row.id for row in fresh)
                await self._settle(fresh, own)
                if len(rows) < BATCH or not fresh:
                    return

    async def _settle(self, rows: list[InFlight], own: Mapping[str, Workflow]) -> None:
        rewrites: list[Rewrite] = []
        for row in rows:
            rewrite = self._rewrite(row, await self._succession(own[row.workflow], row.version))
            if rewrite is not None:
                rewrites.append(rewrite)
        if not rewrites:
            return
        runner, now = self.me, self._clock.now()
        done = set(await self._writer.run(lambda store: store.rewrite(runner, rewrites, now)))
        adopted = [
            rewrite for rewrite in rewrites if rewrite.version is not None and rewrite.execution in done
        ]
        if adopted:
            log.info("executions of other versions adopted: %d", len(adopted))
        if any(rewrite.version is not None for rewrite in rewrites):
            self._found()  # what is not in the answer may be done all the same: by others, or by a first try
        aside = [rewrite for rewrite in rewrites if rewrite.version is None and rewrite.execution in done]
        self._refused.update(rewrite.execution for rewrite in aside)
        for why, count in Counter(rewrite.why for rewrite in aside).items():
            log.warning("executions set aside: %d; %s", count, why)
        for rewrite in aside:
            self._aside(rewrite.execution, rewrite.why)

    def _rewrite(self, row: InFlight, succession: Succession) -> Rewrite | None:
        """What is to become of an execution; None if it is set aside already, and stays so."""
        why = succession.objection(touched(row.tasks))
        if why is None:
            stale = tuple(one.task for one in row.tasks if succession.stale_code(one.task))
            told = f"version {short(succession.old)} to {short(succession.new)}, by runner {self.me}"
            return Rewrite(row.id, row.version, row.rows, succession.new, told, stale)
        if row.status in (ExecutionStatus.PAUSED, ExecutionStatus.PARKED):
            self._refused.add(row.id)
            return None
        told = (
            f"no live runner has version {short(succession.old)} of workflow {row.workflow!r}, and version "
            f"{short(succession.new)} cannot take it over: {why}; start a runner that has the old version, or cancel "
            "it and do it again with fork()"
        )
        return Rewrite(row.id, row.version, row.rows, None, told)

    async def _succession(self, workflow: Workflow, version: str) -> Succession:
        known = self._successions.get((workflow.name, version))
        if known is None:
            found = await self._reader.run(methodcaller("dag", workflow.name, version))
            old = read_outline(version, None if found is None else found[1])
            known = Succession(old, Outline.of(workflow), workflow.on_version)
            self._successions[workflow.name, version] = known
        return known


def touched(tasks: Iterable[LastAttempt]) -> list[Touched]:
    """The tasks of an execution that have an attempt or were skipped."""
    return [
        Touched(one.task, one.state in _ENDED or (one.state in _FAILED and one.retry_at is None))
        for one in tasks
    ]


def read_outline(version: str, dag: str | None) -> Outline | str:
    """The outline of a version that is stored as ``dag``, or the version alone if that cannot be read."""
    if dag is None:
        return version
    try:
        return Outline.read(version, dag)
    except WorkflowError:
        return version
