"""What can be read: one execution, lists with filters and pages, counts."""

from __future__ import annotations

import pytest

from cloacina.model.status import ExecutionStatus
from cloacina.store.rows import ExecutionFilter, Item
from store.make import RUNNING, Stores, end, new, progress, start, submit

S = ExecutionStatus


@pytest.fixture
def many(stores: Stores) -> Stores:
    """e00 to e29: workflow a or b in turn, every status in turn, some with tags."""
    statuses = list(S)
    rows = [
        new(
            f"e{i:02}",
            workflow="ab"[i % 2],
            status=statuses[i % 7],
            tags='["x", "y"]' if i % 5 == 0 else "[]",
        )
        for i in range(30)
    ]
    stores.writer.insert_unowned(rows)
    return stores


def listed(stores: Stores, **fields: object) -> list[str]:
    return [row.id for row in stores.reader.executions(ExecutionFilter(**fields))]  # type: ignore[arg-type]


def test_no_such_execution(stores: Stores) -> None:
    assert stores.reader.execution("nothing") is None


def test_attempts_come_in_order_of_task_and_number(stores: Stores) -> None:
    stores.commit(submit("e1", "b", "a"))
    stores.commit(Item("e1", ends=[end("e1", "a", state="failed", retry_at=1)]))
    stores.commit(Item("e1", starts=[start("e1", "a", n) for n in (10, 2, 9)]))
    assert [(row.task, row.attempt) for row in stores.get("e1").attempts] == [
        ("a", 1), ("a", 2), ("a", 9), ("a", 10), ("b", 1),
    ]  # fmt: skip


def test_newest_first(many: Stores) -> None:
    assert listed(many) == [f"e{i:02}" for i in reversed(range(30))]


@pytest.mark.parametrize(
    ("filter", "expected"),
    [
        ({"workflow": "a"}, lambda i: i % 2 == 0),
        ({"workflow": "none"}, lambda i: False),
        ({"tag": "y"}, lambda i: i % 5 == 0),
        ({"tag": "z"}, lambda i: False),
        ({"workflow": "b", "tag": "x"}, lambda i: i % 10 == 5),
        *(({"status": (s,)}, lambda i, n=n: i % 7 == n) for n, s in enumerate(S)),
        ({"status": (S.FAILED, S.COMPLETED)}, lambda i: i % 7 in (4, 5)),
        ({"status": (S.FAILED, S.FAILED)}, lambda i: i % 7 == 5),
        ({"status": tuple(S)}, lambda i: True),
        (
            {"status": (S.PENDING, S.RUNNING), "workflow": "a", "before": "e20"},
            lambda i: i % 7 < 2 and i % 2 == 0 and i < 20,
        ),
    ],
)  # fmt: skip
@pytest.mark.parametrize("limit", [2, 100])
def test_every_given_filter_holds(many: Stores, filter: dict[str, object], expected, limit: int) -> None:  # type: ignore[no-untyped-def]
    wanted = [f"e{i:02}" for i in reversed(range(30)) if expected(i)]
    assert listed(many, **filter, limit=limit) == wanted[:limit]


def test_pages_cover_everything_once(many: Stores) -> None:
    seen: list[str] = []
    while page := listed(many, status=(S.PENDING, S.COMPLETED), limit=3, before=seen[-1] if seen else None):
        seen += page
    assert seen == listed(many, status=(S.PENDING, S.COMPLETED))


def test_a_hostile_filter_is_only_a_value(many: Stores) -> None:
    assert listed(many, workflow="' OR 1=1 --", tag='"] x') == []


def test_which_have_ended_or_are_not_there(many: Stores) -> None:
    asked = ["e05", "nothing", "e04", "e00", "e06", "e02"]
    assert set(many.reader.ended(asked)) == {"e05", "e04", "e06", "nothing"}
    assert many.reader.ended([]) == []


def test_pending_counts_live_executions_without_owner(stores: Stores) -> None:
    stores.writer.insert_unowned([new(f"e{n}", status=status) for n, status in enumerate(S)])
    stores.commit(submit("owned"), submit("sleeping"))
    give_up = progress("sleeping", RUNNING, next_owner=None, finished=None, result=None, wake_at=5)
    stores.commit(Item("sleeping", progress=give_up))
    assert stores.reader.pending() == 4 + 1


def test_reads_see_every_commit(stores: Stores) -> None:
    for number in range(3):
        stores.commit(submit(f"e{number}"))
        assert len(stores.reader.executions(ExecutionFilter())) == number + 1
