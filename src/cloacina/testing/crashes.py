"""Crashes everywhere: one execution of a workflow, crashed before and after each of its commits in turn.

What a workflow promises to survive, its bodies must allow: after a crash a body may run again. This finds out whether
the end is the same every time, and how often each body ran.
"""

from __future__ import annotations

import asyncio
import shutil
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from logging import WARNING, LogRecord
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cloacina.errors import CloacinaError, ValidationError
from cloacina.model.result import ExecutionResult
from cloacina.model.workflow import Workflow
from cloacina.observe.logs import get_logger
from cloacina.store.location import Location
from cloacina.store.sqlite.database import Database
from cloacina.testing.hand.machine import Moment
from cloacina.testing.runner import TestRunner

TOLD = 5
"""How many crashes that made a difference a message spells out."""


@dataclass(frozen=True, slots=True)
class Crash:
    """One crash, and what became of the execution.

    It came just ``moment`` commit number ``commit``. ``starts`` is how often the body of each task began, in all;
    ``differences`` says what ended otherwise than without a crash.
    """

    commit: int
    moment: Moment
    starts: Mapping[str, int]
    differences: tuple[str, ...]

    def __str__(self) -> str:
        told = "; ".join(self.differences) or "the same end"
        return f"crash {self.moment} commit {self.commit}: {told}"


@dataclass(frozen=True, slots=True)
class CrashReport:
    """What all crashes came to: ``result`` is the execution without one, ``starts`` how often its bodies began."""

    result: ExecutionResult
    starts: Mapping[str, int]
    crashes: tuple[Crash, ...]

    @property
    def differing(self) -> tuple[Crash, ...]:
        """The crashes after which the execution ended otherwise."""
        return tuple(crash for crash in self.crashes if crash.differences)

    @property
    def most_starts(self) -> dict[str, int]:
        """How often the body of each task began at most in one execution; more than without a crash is a repetition."""
        return {task: max(crash.starts.get(task, 0) for crash in self.crashes) for task in self.result.tasks}

    def __str__(self) -> str:
        bad = self.differing
        commits = max(crash.commit for crash in self.crashes)
        ended = f"{len(bad)} with another end" if bad else "all with the same end"
        lines = [
            f"{self.result.workflow}: {len(self.crashes)} crashes, before and after each of {commits} commits, {ended}"
        ]
        lines += [f"  {crash}" for crash in bad[:TOLD]]
        if len(bad) > TOLD:
            lines.append(f"  and {len(bad) - TOLD} more")
        most = self.most_starts
        width = max(map(len, most))
        for task, times in most.items():
            usual = self.starts.get(task, 0)
            lines.append(f"  {task:<{width}}  ran {_times(usual)}; with a crash at most {_times(times)}")
        return "\n".join(lines)


async def crash_everywhere(
    workflow: Workflow,
    input: object = None,
    *,
    prepare: Callable[[], object] | None = None,
    check: Callable[[ExecutionResult], object] | None = None,
    ignore: Iterable[str] = (),
    runner: Callable[[TestRunner], object] | None = None,
    raise_on_difference: bool = True,
) -> CrashReport:
    """Run an execution once without a crash, and once for each crash before and after each of its commits.

    Each runs on a file of its own. The runner that crashed is left as a kill would leave it; another one takes over
    and goes on to the end. If the crash came before anything was stored, the execution is submitted again.

    Args:
        workflow, input: what is executed.
        prepare: called before each execution, to put back what the bodies change outside.
        check: called with each result, to look at what the bodies changed outside. What it raises is a difference.
        ignore: keys of the context that may differ, such as times and random values.
        runner: called with each `TestRunner` before it is used: for ``replace``, ``fail`` and ``delay``.
        raise_on_difference: whether to raise `AssertionError`, with the report as its text, if any status, context
            or check is not as without a crash.

    Raises `ValidationError` if ``workflow`` is none, and what the execution without a crash raises.
    """
    if not isinstance(workflow, Workflow):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ValidationError(f"crash_everywhere: {workflow!r:.80} is no Workflow")
    with TemporaryDirectory(prefix="cloacina-crashes-") as folder, _expecting_crashes():
        trial = _Trial(workflow, input, Path(folder), prepare, check, frozenset(ignore), runner)
        result, starts = await trial.undisturbed()
        crashes: list[Crash] = []
        for commit in count(1):
            moments: tuple[Moment, Moment] = ("before", "after")
            found = [await trial.crashed(commit, moment, result) for moment in moments]
            crashes += [crash for crash in found if crash is not None]
            if None in found:
                break
    report = CrashReport(result, starts, tuple(crashes))
    if raise_on_difference and report.differing:
        raise AssertionError(str(report))
    return report


@dataclass
class _Trial:
    workflow: Workflow
    input: object
    folder: Path
    prepare: Callable[[], object] | None
    check: Callable[[ExecutionResult], object] | None
    ignore: frozenset[str]
    setup: Callable[[TestRunner], object] | None

    def __post_init__(self) -> None:
        self._empty = self.folder / "empty.db"
        Database(Location(self._empty)).writer().close()
        self._numbers = count(1)

    async def undisturbed(self) -> tuple[ExecutionResult, Mapping[str, int]]:
        """The execution without a crash."""
        self._prepare()
        async with self._runner(self._file()) as runner:
            result = await runner.execute(self.workflow, self.input)
        if self.check is not None:
            self.check(result)
        return result, dict(runner.bodies.starts)

    async def crashed(self, commit: int, moment: Moment, expected: ExecutionResult) -> Crash | None:
        """The execution with a crash; None if it ended before that could come."""
        self._prepare()
        file = self._file()
        first = self._runner(file)
        await first.start()
        first.crash_at(commit, moment)
        if not await self._dies(first):
            await first.shutdown()
            return None
        await first.crash()
        differences: list[str] = []
        async with self._runner(file, first) as second:
            try:
                differences += self._differences(await self._go_on(second), expected)
            except CloacinaError as error:
                differences.append(f"{type(error).__name__}: {error}")
        starts = Counter(first.bodies.starts) + second.bodies.starts
        file.unlink()
        return Crash(commit, moment, dict(starts), tuple(differences))

    async def _dies(self, runner: TestRunner) -> bool:
        """Execute until the runner dies; False if it ends without that."""
        work = asyncio.ensure_future(runner.execute(self.workflow, self.input))
        death = asyncio.ensure_future(runner.machine.died.wait())
        await asyncio.wait({work, death}, return_when=asyncio.FIRST_COMPLETED)
        died = runner.machine.dead
        for one in (work, death):
            one.cancel()
        ended, _ = await asyncio.gather(work, death, return_exceptions=True)
        if not died and isinstance(ended, BaseException):
            raise ended
        return died

    async def _go_on(self, runner: TestRunner) -> ExecutionResult:
        stored = await runner.list(workflow=self.workflow)
        if not stored:
            return await runner.execute(self.workflow, self.input)
        return await runner.result(stored[-1].id)

    def _differences(self, result: ExecutionResult, expected: ExecutionResult) -> list[str]:
        found: list[str] = []
        if result.status is not expected.status:
            found.append(f"{result.summary}; without a crash: {expected.status}")
        mine, theirs = self._told(result), self._told(expected)
        found += [
            f"context[{key!r}] is {_shown(mine, key)}; without a crash: {_shown(theirs, key)}"
            for key in sorted(mine.keys() | theirs.keys())
            if _shown(mine, key) != _shown(theirs, key)
        ]
        if self.check is not None:
            try:
                self.check(result)
            except Exception as error:
                found.append(f"the check failed: {error!r:.300}")
        return found

    def _told(self, result: ExecutionResult) -> dict[str, Any]:
        return {key: value for key, value in result.context.to_dict().items() if key not in self.ignore}

    def _prepare(self) -> None:
        if self.prepare is not None:
            self.prepare()

    def _file(self) -> Path:
        file = self.folder / f"{next(self._numbers)}.db"
        shutil.copy(self._empty, file)
        return file

    def _runner(self, file: Path, before: TestRunner | None = None) -> TestRunner:
        now = None if before is None else before.clock.now()
        runner = TestRunner(self.workflow, url=file, now=now)
        if self.setup is not None:
            self.setup(runner)
        return runner


@contextmanager
def _expecting_crashes() -> Generator[None, None, None]:
    """Keep the log free of what recovery says of each runner that is let die."""
    logger = get_logger("recovery")
    logger.addFilter(_silent)
    try:
        yield
    finally:
        logger.removeFilter(_silent)


def _silent(record: LogRecord) -> bool:
    return record.levelno > WARNING


def _shown(context: Mapping[str, Any], key: str) -> str:
    return f"{context[key]!r:.200}" if key in context else "not there"


def _times(times: int) -> str:
    return {0: "never", 1: "once", 2: "twice"}.get(times, f"{times} times")
