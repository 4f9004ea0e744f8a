"""Events: rare facts about executions, written down for their readers."""

from __future__ import annotations

from collections.abc import Sequence

from cloacina.store.nouns.batches import encode
from cloacina.store.rows import Event
from cloacina.store.session import Session

TELL = """
    INSERT INTO events (execution, at, kind, detail)
    SELECT value ->> 0, CAST(value ->> 1 AS BIGINT), value ->> 2, value ->> 3 FROM jsonb_each(?1)"""


def tell(session: Session, events: Sequence[Event]) -> None:
    """Write ``events`` within the current transaction."""
    if events:
        session.change(TELL, (encode(events),))
