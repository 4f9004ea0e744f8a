"""The stores around a store: every payload of every row goes through the codecs, both ways."""

from __future__ import annotations

import errno
import typing
from pathlib import Path
from typing import Any

import pytest

from cloacina.errors import PayloadError, StoreBusy, StoreRefused, StoreUnavailable
from cloacina.model.json.values import decode
from cloacina.model.status import AttemptState, ExecutionStatus, Reason
from cloacina.store import rows
from cloacina.store.payloads import PayloadHome, PayloadPlace, Payloads
from cloacina.store.payloads.folder import PayloadFolder
from cloacina.store.payloads.payloads import read_payload
from cloacina.store.payloads.rows import PayloadRows
from cloacina.store.payloads.stores import DecodingStore, EncodingStore, decoding_store, encoding_store
from cloacina.store.port import ReadStore, WriteStore
from cloacina.store.rows import (
    AttemptEnd,
    Checkpoint,
    Event,
    ExecutionFilter,
    Fork,
    Group,
    Item,
    NewExecution,
    Progress,
    StoredAttempt,
    StoredExecution,
    Verdict,
)
from support.payloads import encryption, id_made_at

HOME = PayloadHome("db", None)
COMPLETED, FAILED = AttemptState.COMPLETED, AttemptState.FAILED

NEW = NewExecution("x1", "w", "v", ExecutionStatus.PENDING, '{"canary": 1}', "key", 0, "[]", None, 1, None)
ITEM = Item(
    "x1",
    new=NEW,
    ends=[
        AttemptEnd("x1", "a", 1, COMPLETED, 2, delta='{"set": {"canary": 2}}'),
        AttemptEnd("x1", "b", 1, FAILED, 2, error='{"type": "E", "message": "canary"}'),
        AttemptEnd("x1", "c", 1, FAILED, 2),
    ],
    verdicts=[
        Verdict("x1", "d", 0, AttemptState.SKIPPED, 2, Reason.DEPENDENCY_FAILED),
        Verdict("x1", "e", 0, FAILED, 2, Reason.CONTEXT, '{"type": "E", "message": "canary"}'),
    ],
    progress=Progress("x1", "r", ExecutionStatus.FAILED, None, result='{"canary": 3}', error="b: canary"),
    events=[Event("x1", 2, "parked", "canary")],
    checkpoints=[Checkpoint("x1", "a", "n", '"canary"', 2)],
)
ATTEMPTS = (
    StoredAttempt("a", 1, COMPLETED, "r", 1, 2, None, '{"set": {"canary": 2}}', None, None, 0),
    StoredAttempt("b", 1, FAILED, "r", 1, 2, None, None, '{"type": "E", "message": "canary"}', None, 0),
)
STORED = StoredExecution(
    "x1", "w", "v", ExecutionStatus.FAILED, '{"canary": 1}', '{"canary": 3}', "key", 0, "[]", None, None,
    1, 1, 2, None, "b: canary", ATTEMPTS,
)  # fmt: skip


class Store:
    """A store that keeps what it is given, and gives what it is told to."""

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.gives: list[Any] = []
        self.fails: list[Exception | None] = []

    def _take(self, what: Any) -> Any:
        self.sent.append(what)
        error = self.fails.pop(0) if self.fails else None
        if error is not None:
            raise error
        return self.gives

    commit = insert_unowned = executions = _take

    def insert_forks(self, made: Any, once: bool) -> Any:
        return self._take(made)

    def checkpoints(self, execution: str, task: str) -> Any:
        return {row.name: row.value for row in self.gives if (row.execution, row.task) == (execution, task)}

    def prune(self, executions: Any) -> Any:
        return [id for id in executions if id in self.gives]

    def forget_runners(self, before: int) -> int:
        return 3

    def missing(self, executions: Any) -> Any:
        return [id for id in executions if id not in self.gives]

    def execution(self, id: str) -> Any:
        return next((row for row in self.gives if row.id == id), None)

    def pending(self) -> int:
        return 7


@pytest.fixture
def inner() -> Store:
    return Store()


@pytest.fixture
def writer(inner: Store) -> WriteStore:
    return encoding_store(typing.cast(WriteStore, inner), Payloads([encryption()]), HOME)


@pytest.fixture
def reader(inner: Store) -> ReadStore:
    return decoding_store(typing.cast(ReadStore, inner), Payloads([encryption()]), HOME)


def encoded(row: StoredExecution) -> StoredExecution:
    """``row`` as it is in the database, made by writing its parts."""
    made = PayloadRows(Payloads([encryption()]), HOME)
    fork = made.fork(Fork(NEW._replace(input=row.input), "x0", row.attempts, ()))
    item = made.item(ITEM)
    assert item.progress is not None
    return row._replace(
        input=fork.new.input, result=item.progress.result, error=item.progress.error, attempts=fork.attempts
    )


def test_every_payload_of_an_item_is_encoded_and_nothing_else(inner: Store, writer: WriteStore) -> None:
    writer.commit(Group("r", 1, (ITEM,)))
    (group,) = inner.sent
    assert (group.runner, group.number, group.claim) == ("r", 1, None)
    assert "canary" in repr(ITEM) and "canary" not in repr(group)
    (item,) = group.items
    assert repr(item).count("'!e:") == 8 == repr(ITEM).count("canary")
    assert item.new._replace(input="") == NEW._replace(input="")
    assert item.ends[2] is ITEM.ends[2] and item.verdicts[0] is ITEM.verdicts[0]


def test_an_item_without_payloads_stays_as_it_is(inner: Store, writer: WriteStore) -> None:
    writer.commit(Group("r", 1, (Item("x1"),)))
    assert inner.sent[0].items == (Item("x1"),)


def test_a_fork_belongs_to_its_new_execution() -> None:
    made = PayloadRows(Payloads([encryption()]), HOME)
    checkpoint = Checkpoint("x2", "a", "n", '"canary"', 2)
    fork = made.fork(Fork(NEW._replace(id="x2"), "x1", ATTEMPTS, (checkpoint,)))
    assert "canary" not in repr(fork) and fork.forked_from == "x1"
    read = made.stored(
        STORED._replace(id="x2", input=fork.new.input, attempts=fork.attempts, result=None, error=None)
    )
    assert (read.input, read.attempts) == (STORED.input, ATTEMPTS)
    assert made.value(fork.checkpoints[0].value, "x2", "a", "n") == checkpoint.value


def test_what_is_read_is_what_was_written(inner: Store, writer: WriteStore, reader: ReadStore) -> None:
    inner.gives = [encoded(STORED)]
    assert "canary" not in repr(inner.gives)
    assert reader.execution("x1") == STORED
    assert reader.execution("x2") is None
    assert writer.commit(Group("r", 1, ())) == [STORED]
    inner.gives = [None, encoded(STORED._replace(attempts=()))]
    assert writer.insert_unowned([NEW, NEW]) == [None, STORED._replace(attempts=())]


def test_a_list_shows_errors_and_leaves_the_rest(inner: Store, reader: ReadStore) -> None:
    inner.gives = [encoded(STORED), STORED._replace(error=None)]
    first, second = reader.executions(ExecutionFilter())
    assert first.error == "b: canary" and first.input.startswith("!e:")
    assert second is inner.gives[1]


def test_one_that_cannot_be_read_hides_nothing_else(inner: Store, writer: WriteStore) -> None:
    """The claim was committed: raising would lose it."""
    good, other = encoded(STORED), encoded(STORED)._replace(id="x2")
    inner.gives = [other, good]
    bad, fine = writer.commit(Group("r", 1, ()))
    assert fine == STORED
    with pytest.raises(
        PayloadError, match="the input of execution x2 cannot be read: .* moved from elsewhere"
    ):
        read_payload(bad.input, "it")
    assert bad.error is not None and "error of execution x2 cannot be read" in bad.error
    error = typing.cast("dict[str, str]", decode(bad.attempts[1].error or ""))
    assert error["type"] == "cloacina.errors.PayloadError"
    assert "error of attempt 1 of task 'b' of execution x2" in error["message"]
    assert "canary" not in repr(bad)


def test_what_could_not_be_read_is_not_written_as_if_it_were_data(
    writer: WriteStore, reader: ReadStore
) -> None:
    for text in ("!?: it cannot be read", "!e:AAAA"):
        with pytest.raises(StoreRefused, match="input of execution x1 cannot be stored: it is no JSON"):
            writer.insert_unowned([NEW._replace(input=text)])


def test_a_group_that_is_sent_again_is_the_same(inner: Store, writer: WriteStore) -> None:
    """A number is bound to its content, and files are written once."""
    inner.fails = [StoreBusy("1"), StoreBusy("2")]
    for _ in range(2):
        with pytest.raises(StoreBusy):
            writer.commit(Group("r", 1, (ITEM, ITEM)))
    writer.commit(Group("r", 1, (ITEM, ITEM)))
    writer.commit(Group("r", 2, (ITEM, ITEM)))
    texts = [group.items[0].new.input for group in inner.sent]
    assert texts[0] == texts[1] == texts[2] != texts[3]


class Filling:
    """A codec on a disk that is full after some payloads."""

    marker = "full"

    def __init__(self, room: int) -> None:
        self.room, self.stored = room, 0

    def encode(self, data: bytes, where: PayloadPlace) -> bytes:
        if self.stored == self.room:
            raise OSError(errno.ENOSPC, "full")
        self.stored += 1
        return b"%d" % self.stored

    def decode(self, data: bytes, where: PayloadPlace) -> bytes:
        return data


@pytest.mark.parametrize("room", [0, 1, 7, 8, 10, 15])
def test_what_is_tried_again_is_not_encoded_again(inner: Store, room: int) -> None:
    """Else each try on a full disk would leave files that nobody needs."""
    codec = Filling(room)
    writer = encoding_store(typing.cast(WriteStore, inner), Payloads([codec]), HOME)
    group = Group("r", 1, (ITEM, ITEM._replace(new=NEW._replace(id="x2"))))
    for _ in range(3):
        with pytest.raises(StoreUnavailable):
            writer.commit(group)
    assert codec.stored == room and not inner.sent
    codec.room = 16
    writer.commit(group)
    assert codec.stored == 16
    assert [item.new.id for item in inner.sent[0].items] == ["x1", "x2"]


def test_other_items_are_not_taken_for_those_sent_last(inner: Store, writer: WriteStore) -> None:
    inner.fails = [StoreRefused("1")]
    other = ITEM._replace(new=NEW._replace(input='{"other": 1}'))
    with pytest.raises(StoreRefused):
        writer.commit(Group("r", 1, (ITEM,)))
    writer.commit(Group("r", 1, (other,)))
    sent = inner.sent[-1].items[0].new
    read = Payloads([encryption()]).decode(sent.input, PayloadPlace(HOME, "x1", "executions.input"))
    assert read == '{"other": 1}'


def test_forks_and_checkpoints_go_through(inner: Store, writer: WriteStore, reader: ReadStore) -> None:
    checkpoint = Checkpoint("x1", "a", "n", '"canary"', 2)
    fork = Fork(NEW, "x0", ATTEMPTS, (checkpoint,))
    inner.gives, inner.fails = [None], [StoreBusy("1")]
    with pytest.raises(StoreBusy):
        writer.insert_forks([fork], True)
    assert writer.insert_forks([fork], True) == [None]
    first, again = inner.sent
    assert "canary" in repr(fork) and "canary" not in repr(first) and first == again
    inner.gives = list(first[0].checkpoints)
    assert reader.checkpoints("x1", "a") == {"n": '"canary"'}
    inner.gives = [inner.gives[0]._replace(name="moved")]
    with pytest.raises(PayloadError, match="checkpoint 'moved' of task 'a' of execution x1"):
        read_payload(reader.checkpoints("x1", "a")["moved"], "it")


def test_what_is_pruned_takes_its_files_along(tmp_path: Path, inner: Store) -> None:
    home = PayloadHome("db", tmp_path / "c.db-payloads")
    writer = encoding_store(typing.cast(WriteStore, inner), Payloads([]), home)
    files = PayloadFolder(tmp_path / "c.db-payloads")
    assert writer.forget_runners(10**15) == 3
    old, young, live = id_made_at(0), id_made_at(10**6), id_made_at(10**6 + 1)
    for id in (old, young, live):
        files.put(id, "name", b"1")
    inner.gives = [young]
    assert writer.prune([young, live]) == [young]
    assert sorted(path.name for path in files.path.iterdir()) == sorted([old, live])
    inner.gives = [live]
    assert writer.forget_runners(1) == 3 and (files.path / old).exists()
    writer.forget_runners(10**15)
    assert [path.name for path in files.path.iterdir()] == [live]


def test_other_methods_are_passed_on(reader: ReadStore) -> None:
    assert reader.pending() == 7


COLUMNS = {"input", "delta", "error", "value", "detail", "items", "new"}
ROWS_WITH_PAYLOADS = {
    row for row in vars(rows).values() if isinstance(row, type) and COLUMNS & set(typing.get_type_hints(row))
}


@pytest.mark.parametrize(("wrapper", "port"), [(EncodingStore, WriteStore), (DecodingStore, ReadStore)])
def test_no_method_that_carries_payloads_is_forgotten(wrapper: type, port: type) -> None:
    assert {NewExecution, StoredExecution, Group, Checkpoint, Fork} <= ROWS_WITH_PAYLOADS
    carrying = {
        name
        for name, method in vars(port).items()
        if callable(method)
        and not name.startswith("_")
        and any(_mentions(hint) for hint in typing.get_type_hints(method).values())
    }
    assert carrying and carrying <= set(vars(wrapper))


def _mentions(hint: object) -> bool:
    return hint in ROWS_WITH_PAYLOADS or any(_mentions(part) for part in typing.get_args(hint))
