"""The SQL itself: which states it takes for live, and that it writes only behind the write lock."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

import cloacina.store
from cloacina.errors import StoreRefused
from cloacina.model.status import AttemptState, ExecutionStatus, Reason
from cloacina.store.rows import Checkpoint, Command, ExecutionFilter, Fork, Group, Item, Rewrite, Shift
from cloacina.store.sqlite.file.connection import Connection
from store.make import ME, Stores, claim, end, new, progress, runner, start, submit

SOURCES = sorted(Path(cloacina.store.__file__).parent.rglob("*.py"))
SQL = re.compile(r"\b(SELECT|INSERT|UPDATE|DELETE|CREATE)\b")


def texts(source: Path) -> list[str]:
    """The strings in a module that are SQL, docstrings left out."""
    tree = ast.parse(source.read_text())
    docs = {ast.get_docstring(node, clean=False) for node in ast.walk(tree) if isinstance(node, DOCUMENTED)}
    constants = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    return [text for text in constants if isinstance(text, str) and SQL.search(text) and text not in docs]


DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef


def test_every_state_that_is_live_or_ended_is_named_as_such() -> None:
    live = {str(status) for status in ExecutionStatus if not status.terminal}
    lists = [
        {word.strip(" '\n") for word in found.split(",")}
        for source in SOURCES
        for text in texts(source)
        for found in re.findall(r"status IN \(('[^)]*)\)", text)
    ]
    assert lists
    ended = {*map(str, ExecutionStatus)} - live
    parts = ({"pending", "running"}, {"pending", "running", "paused"}, {"paused", "parked"})
    assert all(words in (live, ended, *parts) for words in lists), lists


DEFERRAL = Shift("e1", "a", 1, AttemptState.RUNNING, AttemptState.DEFERRED)

WRITES: dict[str, Callable[[Stores], object]] = {
    "commit": lambda stores: stores.commit(submit("e2", "a"), claim=claim(5)),
    "settle": lambda stores: stores.commit(
        Item("e1", ends=[end("e1", "a")], starts=[start("e1", "b")]), Item("x", progress=None)
    ),
    "checkpoint": lambda stores: stores.commit(
        Item("e1", checkpoints=[Checkpoint("e1", "a", "x", "1", 12)], shifts=[DEFERRAL])
    ),
    "finish": lambda stores: stores.commit(Item("e1", progress=progress("e1"))),
    "insert_unowned": lambda stores: stores.writer.insert_unowned([new("e3"), new("e4", key="k")]),
    "register_runner": lambda stores: stores.writer.register_runner(runner("runner-2")),
    "register_versions": lambda stores: stores.writer.register_versions(ME, [("wf", "v1", "{}")], 1),
    "recover": lambda stores: stores.writer.recover(ME, Reason.CRASH, 20),
    "free_orphans": lambda stores: stores.writer.free_orphans(20),
    "rewrite": lambda stores: stores.writer.rewrite(ME, [Rewrite("w1", "v1", 0, "v2", "why")], 20),
    "insert_forks": lambda stores: stores.writer.insert_forks([Fork(new("f1"), "e1", (), ())], True),
    "send": lambda stores: stores.writer.send(Command("c1", "w1", "cancel", 20)),
    "send to an owner": lambda stores: stores.writer.send(Command("c2", "e1", "pause", 20)),
    "prune": lambda stores: stores.writer.prune(["over"]),
    "forget_runners": lambda stores: stores.writer.forget_runners(100),
    "send again": lambda stores: stores.writer.send(Command("c2", "e1", "pause", 20), again=True),
}


@pytest.mark.parametrize("name", WRITES)
def test_what_writes_takes_the_write_lock_first(stores: Stores, name: str) -> None:
    stores.commit(submit("e1", "a"), submit("orphan", owner="nobody"))
    stores.writer.insert_unowned([new("w1"), new("over", status=ExecutionStatus.COMPLETED)])
    stores.writer.register_runner(runner("gone")._replace(state="stopped"))
    ran = traced(stores, lambda: WRITES[name](stores))
    begin = ran.index("BEGIN IMMEDIATE")
    assert not any(statement.startswith(("INSERT", "UPDATE", "DELETE")) for statement in ran[:begin])
    assert ran[-1] == "COMMIT" and ran.count("BEGIN IMMEDIATE") == ran.count("COMMIT") == 1


def test_each_kind_of_row_is_one_statement(stores: Stores) -> None:
    names = [f"e{number}" for number in range(50)]
    ran = traced(stores, lambda: stores.commit(*(submit(name, "a", "b") for name in names)))
    assert [statement.split("(")[0].split()[:3] for statement in ran] == [
        ["BEGIN", "IMMEDIATE"], ["UPDATE", "runners", "SET"], ["INSERT", "INTO", "executions"],
        ["INSERT", "INTO", "attempts"], ["COMMIT"],
    ]  # fmt: skip


def test_long_texts_are_split_and_read_back_alike(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"e{number:02}" for number in range(20)]
    monkeypatch.setattr("cloacina.store.nouns.batches.CHUNK_BYTES", 1000)
    ran = traced(stores, lambda: stores.commit(*(submit(name, "b", "a") for name in names)))
    assert sum(statement.startswith("INSERT INTO executions") for statement in ran) > 1
    packed = stores.get("e07"), stores.reader.executions(ExecutionFilter())
    monkeypatch.setattr("cloacina.store.sqlite.reads.CHUNK_BYTES", 1)
    stores.reader = type(stores.reader)(stores.writer._connection, owned=False)  # type: ignore[attr-defined, call-arg]
    ran = traced(stores, lambda: stores.get("e07"))
    assert not any("json_group_array(json_array" in statement for statement in ran)
    assert (stores.get("e07"), stores.reader.executions(ExecutionFilter())) == packed
    assert [row.id for row in packed[1]] == names[::-1]
    assert [row.task for row in packed[0].attempts] == ["a", "b"]


def test_an_error_leaves_no_transaction_open(stores: Stores) -> None:
    with pytest.raises(StoreRefused):
        stores.commit(Item("e1", ends=[end("e1", "a")]))
    with pytest.raises(StoreRefused):
        stores.writer.insert_unowned([new("e1", input=None)])
    assert not raw(stores).in_transaction


def test_a_transaction_that_was_left_open_is_ended_by_the_next_call(stores: Stores) -> None:
    raw(stores).execute("BEGIN IMMEDIATE; DELETE FROM runners")
    stores.writer.commit(Group(ME, 1, ()))
    assert [row.id for row in stores.reader.runners()] == [ME]


def test_there_is_no_transaction_within_another(stores: Stores) -> None:
    """The COMMIT of the inner one would end the outer one half way."""
    connection: Connection = stores.writer._connection  # type: ignore[attr-defined]
    for outer in (connection.transaction, connection.snapshot):
        with pytest.raises(RuntimeError, match="within another"), outer():
            connection.rows("SELECT 1 FROM meta")
            with connection.transaction():
                pass
        assert not raw(stores).in_transaction
    with connection.transaction(), connection.snapshot():
        stores.writer._connection.change("DELETE FROM runners")  # type: ignore[attr-defined]
    assert stores.reader.runners() == []


def raw(stores: Stores) -> apsw.Connection:
    connection: apsw.Connection = stores.writer._connection._raw  # type: ignore[attr-defined]
    return connection


def traced(stores: Stores, action: Callable[[], object]) -> list[str]:
    """The statements that the writer's connection runs during ``action``."""
    ran: list[str] = []

    def trace(cursor: object, statement: str, bindings: object) -> bool:
        ran.append(statement.strip())
        return True

    raw(stores).exec_trace = trace
    try:
        action()
    finally:
        raw(stores).exec_trace = None
    return ran
