"""States: closed lists of words, and the moves between them."""

from __future__ import annotations

from itertools import product

import pytest

from cloacina.errors import ExecutionError
from cloacina.model.status import AttemptState, ExecutionStatus, TaskState, check_move

MOVES = {
    ExecutionStatus: {
        "pending": "running paused parked completed failed cancelled",
        "running": "pending paused parked completed failed cancelled",
        "paused": "pending running parked failed cancelled",
        "parked": "pending running paused failed cancelled",
    },
    TaskState: {
        "pending": "running failed skipped cancelled",
        "running": "pending waiting completed failed cancelled",
        "waiting": "running failed cancelled",
    },
    AttemptState: {
        "running": "deferred completed failed timed_out interrupted cancelled",
        "deferred": "running failed timed_out interrupted cancelled",
    },
}
ALL = [(kind, before, after) for kind in MOVES for before, after in product(kind, kind)]


@pytest.mark.parametrize(
    ("kind", "before", "after"), ALL, ids=lambda value: getattr(value, "__name__", value)
)
def test_a_move_is_allowed_or_raises(kind: type, before: str, after: str) -> None:
    if after in MOVES[kind].get(before, "").split():
        assert check_move(before, after) is after
    else:
        with pytest.raises(ExecutionError, match=f"{before} to {after}"):
            check_move(before, after)


def test_terminal_states_have_no_moves() -> None:
    for kind in (ExecutionStatus, TaskState):
        assert {state for state in kind if state.terminal} == set(kind) - set(MOVES[kind])
