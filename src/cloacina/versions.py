"""The check of a code base: what would become of the executions in flight if it were deployed.

For a deploy script, on a machine that has the new code and the database::

    report = cloacina.versions.check("sqlite:///cloacina.db", [etl, mails])
    print(report)
    sys.exit(0 if report.ok else 1)

It only reads, and may run beside live runners. What it tells is true of the moment: tasks that start later are
tasks that have begun.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from os import PathLike
from typing import Literal, TypeAlias, TypeVar, cast

from cloacina.engine.storage.backend import ServerBackend
from cloacina.engine.upkeep.adoption import read_outline, touched
from cloacina.errors import RegistrationError, ValidationError
from cloacina.logic.adoption import Succession
from cloacina.model.dag.outline import Outline, short
from cloacina.model.workflow import Workflow
from cloacina.store.location import Location, read_location
from cloacina.store.migrations import MIGRATIONS, outdated
from cloacina.store.port import ReadStore
from cloacina.store.rows import InFlight
from cloacina.store.sqlite.copies.readonly import open_readonly
from cloacina.store.sqlite.database import Database

__all__ = ["Finding", "Report", "Verdict", "check"]

T = TypeVar("T")

PAGE = 1_000
TOLD = 3
"""How many executions of a finding are named with their reasons."""

Verdict: TypeAlias = Literal["same", "adopted", "parked", "pinned", "unknown"]
_MEANING: dict[str, str] = {
    "same": "the code has this version",
    "adopted": "the code's version takes them over once no live runner has theirs",
    "parked": "the code's version cannot take over all of them",
    "pinned": 'they wait for a runner with their version (on_version="pin")',
    "unknown": "the code has no such workflow; they wait for a runner that does",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """What would become of the live executions of one stored version.

    ``refused`` of ``executions`` would be set aside; ``reasons`` are the ids of the first few, each with the reason.
    """

    workflow: str
    version: str
    executions: int
    verdict: Verdict
    refused: int = 0
    reasons: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        some = f", {self.refused} of them would be set aside" if self.refused else ""
        head = f"{self.workflow} {short(self.version)}: {self.executions} in flight{some}; {_MEANING[self.verdict]}"
        return "\n".join([head, *(f"  {id}: {why}" for id, why in self.reasons)])


@dataclass(frozen=True, slots=True)
class Report:
    """What a check found, by workflow and version. Printed, it has a line for each, and one for each reason."""

    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """True if every execution in flight would go on."""
        return all(finding.verdict in ("same", "adopted") for finding in self.findings)

    def __str__(self) -> str:
        return "\n".join(map(str, self.findings)) or "nothing is in flight"


def check(url: str | PathLike[str], workflows: Iterable[Workflow], *, schema: str | None = None) -> Report:
    """Compare ``workflows``, the whole code base, with the executions in flight in the database at ``url``.

    On PostgreSQL, ``schema`` is that of the runners.

    Blocks while it reads. Raises `ValidationError` for other things than workflows and for a database that is not
    there or in memory, `WorkflowError` for a workflow that is not valid or there twice, and `StoreError` for a database
    that cannot be opened.
    """
    own = _by_name(workflows)
    return look(url, schema, lambda store: Report(tuple(_examine(store, own))))


def look(url: str | PathLike[str], schema: str | None, job: Callable[[ReadStore], T]) -> T:
    """Do ``job`` on a store that only reads the database at ``url``; blocks meanwhile. Raises as `check` does."""
    location = read_location(url, schema)
    if isinstance(location, Location):
        with closing(_open_file(location)) as store:
            return job(store)
    backend = ServerBackend(location)

    def there() -> T:
        with closing(backend.looking()) as store:
            return job(store)

    with ThreadPoolExecutor(
        1, "cloacina-check"
    ) as thread:  # whoever calls may have an event loop on this one
        return thread.submit(there).result()


def _open_file(location: Location) -> ReadStore:
    location = location.resolved()
    with open_readonly(str(location)) as database:  # which refuses what is no database of ours
        if database.schema_version < len(MIGRATIONS):
            raise outdated(location, database.schema_version)
    return Database(location).reader()


def _examine(store: ReadStore, own: dict[str, Workflow]) -> Iterable[Finding]:
    counts: Counter[tuple[str, str]] = Counter()
    refused: Counter[tuple[str, str]] = Counter()
    reasons: dict[tuple[str, str], list[tuple[str, str]]] = {}
    successions: dict[tuple[str, str], Succession | None] = {}
    page: list[InFlight] = []
    while page := store.in_flight(page[-1].id if page else "", PAGE):
        for row in page:
            version = row.workflow, row.version
            counts[version] += 1
            if version not in successions:
                successions[version] = _succession(store, own.get(row.workflow), *version)
            succession = successions[version]
            if succession is None or succession.pinned:
                continue
            why = succession.objection(touched(row.tasks))
            if why is not None:
                refused[version] += 1
                told = reasons.setdefault(version, [])
                if len(told) < TOLD:
                    told.append((row.id, why))
    for version, count in sorted(counts.items()):
        verdict = _verdict(successions[version], refused[version])
        yield Finding(*version, count, verdict, refused[version], tuple(reasons.get(version, ())))


def _succession(store: ReadStore, workflow: Workflow | None, name: str, version: str) -> Succession | None:
    if workflow is None:
        return None
    new = Outline.of(workflow)
    stored = store.dag(name, version)
    old = new if version == new.version else read_outline(version, stored and stored[1])
    return Succession(old, new, workflow.on_version)


def _verdict(succession: Succession | None, refused: int) -> Verdict:
    if succession is None:
        return "unknown"
    if succession.old == succession.new:
        return "same"
    if succession.pinned:
        return "pinned"
    return "parked" if refused else "adopted"


def _by_name(workflows: object) -> dict[str, Workflow]:
    if isinstance(workflows, str | Workflow) or not isinstance(workflows, Iterable):
        raise ValidationError(f"workflows={workflows!r:.80} is no list: write [workflow, ...]")
    found: dict[str, Workflow] = {}
    for one in cast("Iterable[object]", workflows):
        if not isinstance(one, Workflow):
            raise ValidationError(f"{one!r:.80} in workflows is no Workflow")
        if found.setdefault(one.name, one).version != one.version:
            raise RegistrationError(
                f"workflow {one.name!r} is there twice, with two versions: give the one to deploy"
            )
    return found
