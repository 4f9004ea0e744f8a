"""More work than there is room for: it is refused or stored, takes no memory, and what was taken is done."""

from __future__ import annotations

import signal

from acceptance.support.child import Child
from acceptance.support.stage import Stage


def test_a_bound_on_pending_work_is_kept_and_what_was_taken_is_done(stage: Stage) -> None:
    """Twenty times more is offered at once than may wait, while nothing can run."""
    child = jammed(stage, flood=1_000, max_pending=50)
    taken = int(child.line("taken"))
    # What is being stored while the engine counts may be counted twice, or not at all.
    assert 40 <= taken <= 75
    assert sum(row.owner is None and not row.over for row in stage.midway().executions.values()) == taken
    stage.open_gate()
    assert child.wait() == 0, child.tail()
    assert len(stage.finally_().executions) == taken + 2


def test_work_that_waits_takes_no_memory(stage: Stage) -> None:
    child = jammed(stage, flood=3_000)
    assert int(child.line("taken")) == 3_000
    assert int(child.line("held")) == 1
    child.signal(signal.SIGKILL)
    child.wait()
    stage.open_gate()
    stage.finish()
    assert len(stage.finally_().executions) == 3_002


def jammed(stage: Stage, *, flood: int, max_pending: int = 0) -> Child:
    """A runner with room for one execution, which waits at the closed gate, and is offered so many more."""
    stage.close_gate()
    first, asks = stage.asks("single"), stage.asks("gated")
    child = stage.start(asks, first=first, flood=flood, window=1, max_pending=max_pending)
    child.line("waiting")
    return child
