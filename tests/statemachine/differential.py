"""The differential of the stores: random groups, claims, forks, commands, rewrites and recoveries, told to twins."""

from __future__ import annotations

from collections import Counter
from typing import Any, ClassVar

from hypothesis import event
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from cloacina.model.status import AttemptState, CommandKind, ExecutionStatus, Reason
from cloacina.store.rows import (
    AttemptEnd,
    AttemptStart,
    Checkpoint,
    ClaimRequest,
    Command,
    Event,
    ExecutionFilter,
    ExpiryLook,
    Fork,
    Group,
    Item,
    NewExecution,
    Progress,
    Rewrite,
    RunnerRow,
    Shift,
    StoredAttempt,
    Verdict,
)
from statemachine.twins import Refusal, Twins

IDS = st.sampled_from(
    ["00000001-0000-7000-8000-00000000000" + digit for digit in "12345678"] + ["E", "e", "é", "Z", "a"]
)
RUNNERS = st.sampled_from(["r1", "r2", "R3"])
TASKS = st.sampled_from(["a", "B", "b", "ä"])
WORKFLOWS = st.sampled_from(["wf", "WF", "w-2"])
VERSIONS = st.sampled_from(["v1", "V1", "v2"])
TIMES = st.sampled_from([0, 1, 5, 10, 4_000_000, 1_000_000_000_000, 2**53 + 1])
PRIORITIES = st.sampled_from([0, 1, -1, 1_000_000, -1_000_000])
KEYS = st.sampled_from([None, None, "k", "K", "é", "k "])
TEXTS = st.sampled_from(["{}", '{"a": 1}', '{"a": 1.0}', '{"ü": "\\u0001"}', "[]"])
DAGS = ['{"tasks": [{"id": "a"}, {"id": "B"}]}', '{"tasks": []}', "{}", "no JSON"]
MAYBE_TIME = st.none() | TIMES
LIVE = [status for status in ExecutionStatus if not status.terminal]
ODD = st.sampled_from([*["no"] * 20, "text", "surrogate", "huge", "none"])
"""What is the matter with a row now and then. Not a float or a NUL: those are refused before they come so far."""


class StoreMachine(RuleBasedStateMachine):
    """See the module's text."""

    twins: ClassVar[Twins]
    happened: ClassVar[Counter[str]] = Counter()

    @initialize(runners=st.integers(1, 3))
    def begin(self, runners: int) -> None:
        self.numbers: dict[str, int] = {}
        self.last: Group | None = None
        self.twins.empty()
        for id in ["r1", "r2", "R3"][:runners]:
            self.register_runner(id, 1)

    # What is asked.

    def ask(self, what: str, *args: Any, **named: Any) -> Any:
        """Call a method of both, of the writer or the reader, whoever has it."""
        answer = self.twins.ask(what, *args, **named)
        told = f"{what} raises {answer.kind}" if isinstance(answer, Refusal) else what
        self.happened[told] += 1
        event(told)
        return answer

    def stored(self) -> list[Any]:
        """All executions as SQLite has them, which are those that PostgreSQL has."""
        ids = [row[0] for row in self.twins.sqlite.rows()["executions"]]
        return [self.twins.sqlite.reader.execution(id) for id in ids]

    # Writing.

    @rule(id=RUNNERS, started=TIMES)
    def register_runner(self, id: str, started: int) -> None:
        self.ask("register_runner", RunnerRow(id, "host", 1, started, "alive", 0))
        self.numbers.setdefault(id, 0)

    @rule(data=st.data(), runner=RUNNERS, skew=st.sampled_from([0] * 8 + [-2, 1]))
    def commit(self, data: st.DataObject, runner: str, skew: int) -> None:
        items = [self._item(data, runner) for _ in range(data.draw(st.integers(1, 3)))]
        gives_up = any(item.progress is not None and item.progress.next_owner is None for item in items)
        claim = None if gives_up else data.draw(st.none() | claims())
        self._commit(Group(runner, self.numbers.get(runner, 0) + 1 + skew, tuple(items), claim))

    @rule(runner=RUNNERS, request=st.deferred(lambda: claims()))
    def claim(self, runner: str, request: ClaimRequest) -> None:
        self.ask("claimable", request)
        self._commit(Group(runner, self.numbers.get(runner, 0) + 1, (), request))

    @rule(
        runner=RUNNERS,
        priorities=st.lists(PRIORITIES, min_size=2, max_size=4),
        limit=st.integers(1, 2),
        now=TIMES,
        due=TIMES,
    )
    def queue(self, runner: str, priorities: list[int], limit: int, now: int, due: int) -> None:
        """Some wait, a few are claimed, and the first of these is put off and claimed again when it is due."""
        ids = [f"q{number}" for number in range(len(priorities))]
        rows = [
            NewExecution(id, "wf", "v1", LIVE[0], "{}", None, priority, "[]", None, 0, None)
            for id, priority in zip(ids, priorities, strict=True)
        ]
        self.ask("insert_unowned", rows)
        request = ClaimRequest((("wf", "v1"),), limit, now)
        self.claim(runner, request)
        mine = [row.id for row in self.stored() if row.owner == runner and row.id in ids]
        for id in mine[:1]:
            put_off = Progress(id, runner, LIVE[1], None, started=1, wake_at=due)
            self._commit(Group(runner, self.numbers.get(runner, 0) + 1, (Item(id, progress=put_off),)))
            self.claim(runner, ClaimRequest((("wf", "v1"),), limit, due))

    @rule()
    def commit_again(self) -> None:
        if self.last is not None:
            self._commit(self.last, again=True)

    def _commit(self, group: Group, *, again: bool = False) -> None:
        # What a group owns that was applied before may be told in any order.
        answer = self.ask("commit", group, in_order=not again)
        if not isinstance(answer, Refusal):
            self.numbers[group.runner] = group.number
            self.last = group

    @rule(
        rows=st.lists(st.deferred(lambda: new_rows()), min_size=1, max_size=3, unique_by=lambda row: row.id)
    )
    def insert_unowned(self, rows: list[NewExecution]) -> None:
        # Of two with one key the first of the list wins on SQLite, and on PostgreSQL the lower id: that is the
        # same, since ids grow. And an id comes again only with the row that was sent before.
        keys = {row.id: row.key for row in self.stored()}
        self.ask("insert_unowned", [row._replace(key=keys.get(row.id, row.key)) for row in sorted(rows)])

    @rule(
        runner=RUNNERS, now=TIMES,
        versions=st.lists(st.tuples(WORKFLOWS, VERSIONS, st.sampled_from(DAGS)), min_size=1, max_size=3),
    )  # fmt: skip
    def register_versions(self, runner: str, versions: list[tuple[str, str, str]], now: int) -> None:
        self.ask("register_versions", runner, versions, now)

    @rule(data=st.data(), runner=RUNNERS, now=TIMES)
    def rewrite(self, data: st.DataObject, runner: str, now: int) -> None:
        rows = self.stored()
        if not rows:
            return
        chosen = data.draw(
            st.lists(st.sampled_from(rows), min_size=1, max_size=3, unique_by=lambda row: row.id)
        )
        rewrites = [
            Rewrite(
                row.id,
                data.draw(st.sampled_from([row.version] * 4 + ["v2"])),
                len(row.attempts) + data.draw(st.sampled_from([0] * 6 + [1])),
                data.draw(st.none() | VERSIONS),
                "why ü",
                tuple({attempt.task for attempt in row.attempts}) if data.draw(st.booleans()) else (),
            )
            for row in chosen
        ]
        self.ask("rewrite", runner, rewrites, now)

    @rule(data=st.data(), once=st.booleans())
    def insert_forks(self, data: st.DataObject, once: bool) -> None:
        rows = self.stored()
        if not rows:
            return
        made = []
        for _ in range(data.draw(st.integers(1, 2))):
            source = data.draw(st.sampled_from(rows))
            new = data.draw(new_rows(odd=False))._replace(key=None)
            kept = [row for row in source.attempts if data.draw(st.booleans())]
            notes = [
                Checkpoint(new.id, "a", name, "1", 5)
                for name in data.draw(st.lists(TASKS, max_size=2, unique=True))
            ]
            made.append(Fork(new, source.id, tuple(kept), tuple(notes)))
        self.ask("insert_forks", made, once)

    @rule(
        runner=RUNNERS, reason=st.sampled_from([Reason.CRASH, Reason.SHUTDOWN, Reason.LOST_LEASE]), now=TIMES
    )
    def recover(self, runner: str, reason: Reason, now: int) -> None:
        self.ask("recover", runner, reason, now)

    @rule(now=TIMES)
    def free_orphans(self, now: int) -> None:
        self.ask("free_orphans", now)

    @rule(
        id=st.sampled_from(["c1", "c2", "C3", "c4"]), execution=IDS, kind=st.sampled_from(list(CommandKind)),
        sent=TIMES, again=st.sampled_from([False, False, True]),
    )  # fmt: skip
    def send(self, id: str, execution: str, kind: str, sent: int, again: bool) -> None:
        self.ask("send", Command(id, execution, kind, sent), again=again)

    @rule(ids=st.lists(IDS, max_size=4))
    def prune(self, ids: list[str]) -> None:
        self.ask("prune", ids)

    @rule(before=TIMES)
    def forget_runners(self, before: int) -> None:
        self.ask("forget_runners", before)

    # Reading.

    @rule(
        workflow=st.none() | WORKFLOWS, status=st.lists(st.sampled_from(list(ExecutionStatus)), max_size=3),
        tag=st.sampled_from([None, "x", "ü", "X"]), before=st.none() | IDS, limit=st.integers(1, 4),
    )  # fmt: skip
    def executions(self, workflow: Any, status: Any, tag: Any, before: Any, limit: int) -> None:
        self.ask("executions", ExecutionFilter(workflow, tuple(status), tag, before, limit))

    @rule(
        id=IDS,
        task=TASKS,
        runner=RUNNERS,
        command=st.sampled_from(["c1", "c2", "C3", "c4"]),
        ids=st.lists(IDS, max_size=4),
    )
    def look_at(self, id: str, task: str, runner: str, command: str, ids: list[str]) -> None:
        self.ask("execution", id)
        self.ask("checkpoints", id, task)
        self.ask("commands", runner)
        self.ask("outstanding", command)
        self.ask("missing", ids)
        self.ask("ended", ids)
        self.ask("forks_of", ids, in_order=False)

    @rule(
        workflow=WORKFLOWS, version=VERSIONS, pairs=st.lists(st.tuples(WORKFLOWS, VERSIONS), max_size=3, unique=True),
        known=st.lists(IDS, max_size=2), limit=st.integers(1, 3), after=IDS | st.just(""),
    )  # fmt: skip
    def look_at_versions(
        self, workflow: str, version: str, pairs: Any, known: Any, limit: int, after: str
    ) -> None:
        self.ask("workflows")
        self.ask("versions", workflow)
        self.ask("dag", workflow, version)
        self.ask("dag", workflow, None)
        self.ask("offered", workflow, version)
        self.ask("runners")
        self.ask("pending")
        self.ask("next_wake_up", pairs)
        # Which of more than fit is told first is left to the store.
        self.ask("stranded", list(dict(pairs).items()), known, 100)
        self.ask("in_flight", after, limit)

    @rule(
        status=st.sampled_from([s for s in ExecutionStatus if s.terminal]), before=TIMES, after=IDS | st.just(""),
        rows=st.integers(1, 5),
    )  # fmt: skip
    def expired(self, status: ExecutionStatus, before: int, after: str, rows: int) -> None:
        self.ask("expired", ExpiryLook(status, before, after, rows))

    # Items.

    def _item(self, data: st.DataObject, runner: str) -> Item:
        """All that a group writes for one execution: mostly what fits."""
        owned = [row for row in self.stored() if row.owner == runner and not row.status.terminal]
        if not owned or data.draw(st.integers(0, 2)) == 0:
            new = data.draw(new_rows(owner=runner))
            tasks = data.draw(st.lists(TASKS, max_size=3, unique=True))
            starts = [AttemptStart(new.id, task, 1, runner, data.draw(TIMES)) for task in tasks]
            return Item(new.id, new, starts, verdicts=self._verdicts(data, new.id, [], tasks))
        row = data.draw(st.sampled_from(owned))
        under_way = [
            one for one in row.attempts if one.state in (AttemptState.RUNNING, AttemptState.DEFERRED)
        ]
        ends = [self._end(data, row.id, one) for one in under_way if data.draw(st.booleans())]
        ended = {end.task for end in ends}
        shifts = [
            self._shift(row.id, one)
            for one in under_way
            if one.task not in ended and data.draw(st.booleans())
        ]
        starts = self._starts(data, row, runner)
        progress = self._progress(data, row, runner) if data.draw(st.booleans()) else None
        notes = [
            Checkpoint(row.id, one.task, name, data.draw(TEXTS), data.draw(TIMES))
            for one in under_way
            for name in data.draw(st.lists(TASKS, max_size=1))
        ]
        obeyed = data.draw(st.lists(st.sampled_from(["c1", "c2", "C3", "c4"]), max_size=2, unique=True))
        events = [Event(row.id, data.draw(TIMES), "parked", "ü")] if data.draw(st.booleans()) else []
        busy = [one.task for one in row.attempts] + [start.task for start in starts]
        verdicts = self._verdicts(data, row.id, list(row.attempts), busy)
        return Item(row.id, None, starts, ends, verdicts, progress, events, shifts, notes, obeyed)

    def _end(self, data: st.DataObject, id: str, one: StoredAttempt) -> AttemptEnd:
        state = data.draw(st.sampled_from(["completed", "failed", "timed_out", "interrupted", "cancelled"]))
        end = AttemptEnd(
            id, one.task, one.attempt, AttemptState(state), data.draw(TIMES), data.draw(MAYBE_TIME),
            data.draw(st.none() | TEXTS), data.draw(st.sampled_from([None, "boom", "ü\n"])),
            data.draw(st.none() | st.sampled_from(list(Reason))),
        )  # fmt: skip
        odd = data.draw(ODD)
        return end._replace(**({} if odd == "no" else _odd(odd, "finished", "error")))

    def _shift(self, id: str, one: StoredAttempt) -> Shift:
        other = AttemptState.DEFERRED if one.state is AttemptState.RUNNING else AttemptState.RUNNING
        return Shift(id, one.task, one.attempt, one.state, other)

    def _starts(self, data: st.DataObject, row: Any, runner: str) -> list[AttemptStart]:
        last = {one.task: one.attempt for one in row.attempts}
        tasks = data.draw(st.lists(TASKS, max_size=2, unique=True))
        return [
            AttemptStart(
                row.id, task, last.get(task, 0) + data.draw(st.sampled_from([1] * 7 + [0])), runner, data.draw(TIMES),
                data.draw(st.integers(0, 1)),
            )
            for task in tasks
        ]  # fmt: skip

    def _verdicts(
        self, data: st.DataObject, id: str, rows: list[StoredAttempt], busy: list[str]
    ) -> list[Verdict]:
        if data.draw(st.integers(0, 3)):
            return []
        task = data.draw(TASKS)
        number = max((one.attempt for one in rows if one.task == task), default=-1) + 1
        if task in busy and not any(one.task == task for one in rows):
            return []
        state = AttemptState.SKIPPED if number == 0 else AttemptState.CANCELLED
        return [
            Verdict(
                id, task, number, state, data.draw(TIMES), data.draw(st.sampled_from(list(Reason))), "why"
            )
        ]

    def _progress(self, data: st.DataObject, row: Any, runner: str) -> Progress:
        status = data.draw(st.sampled_from(list(ExecutionStatus)))
        next_owner = None if status.terminal else data.draw(st.sampled_from([runner, None]))
        return Progress(
            row.id, data.draw(st.sampled_from([runner] * 7 + ["r2"])), status, next_owner, data.draw(MAYBE_TIME),
            data.draw(TIMES) if status.terminal else None, data.draw(MAYBE_TIME), data.draw(st.none() | TEXTS),
            data.draw(st.sampled_from([None, "why"])),
        )  # fmt: skip


def claims() -> st.SearchStrategy[ClaimRequest]:
    """Claims of some versions."""
    pairs = st.lists(st.tuples(WORKFLOWS, VERSIONS), max_size=4, unique=True).map(tuple)
    return st.builds(ClaimRequest, pairs, st.integers(0, 4), TIMES)


@st.composite
def new_rows(draw: st.DrawFn, owner: str | None = None, *, odd: bool = True) -> NewExecution:
    """New executions, now and then one that cannot be stored."""
    row = NewExecution(
        draw(IDS), draw(WORKFLOWS), draw(VERSIONS), draw(st.sampled_from([LIVE[0], LIVE[1]])), draw(TEXTS), draw(KEYS),
        draw(PRIORITIES), draw(st.sampled_from(["[]", '["x"]', '["x","ü"]', '["X"]'])), owner, draw(TIMES),
        draw(MAYBE_TIME) if owner else None,
    )  # fmt: skip
    matter = draw(ODD) if odd else "no"
    return row if matter == "no" else row._replace(**_odd(matter, "priority", "input"))


def _odd(odd: str, number: str, text: str) -> dict[str, Any]:
    return {
        "text": {number: "high"},
        "surrogate": {text: "\ud800"},
        "huge": {number: 2**70},
        "none": {number: None},
    }[odd]
