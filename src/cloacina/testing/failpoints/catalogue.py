"""The catalogue of failpoints: each one's name, what it means, and where in the engine it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from types import MappingProxyType
from typing import Any, Literal

from cloacina.engine.asking.hub import Hub
from cloacina.engine.bodies.courier import Courier
from cloacina.engine.driving.driver import Driver
from cloacina.engine.executors.attempt import Attempt
from cloacina.engine.incarnation import Incarnation
from cloacina.engine.liveness.files.lease import FileLease
from cloacina.engine.liveness.pulse import Pulse
from cloacina.engine.liveness.recovery import Recovery
from cloacina.engine.liveness.server.lease import ServerLease
from cloacina.engine.liveness.starts import Starts
from cloacina.store.sqlite.database import Database, SqliteReader, SqliteWriter

Told = Callable[[Callable[..., Any], tuple[Any, ...], BaseException], Any]
"""What a call returns for an error that it must tell, not raise: it gets the call, its arguments and the error."""


@dataclass(frozen=True)
class Place:
    """Just before, or just after, the functions named ``attribute`` of ``owners``."""

    meaning: str
    moment: Literal["before", "after"]
    owners: tuple[type, ...]
    attribute: str
    told: Told | None = None
    """How an error shows there; None if it is raised."""


def _fail_body(conclude: Callable[..., Any], arguments: tuple[Any, ...], error: BaseException) -> Any:
    attempt, *_ = arguments
    return conclude(attempt, None, error)


def _say_why(trouble: Callable[..., Any], arguments: tuple[Any, ...], error: BaseException) -> str:
    return str(error)


def _stores() -> tuple[tuple[type, ...], tuple[type, ...], tuple[type, ...]]:
    """What opens, writes and reads, on every database whose driver is installed."""
    if find_spec("asyncpg") is None:
        return (Database,), (SqliteWriter,), (SqliteReader,)
    from cloacina.store.postgres.database import PostgresDatabase, PostgresReader, PostgresWriter

    return (Database, PostgresDatabase), (SqliteWriter, PostgresWriter), (SqliteReader, PostgresReader)


def _both(name: str, what: str, owners: tuple[type, ...], attribute: str) -> Iterable[tuple[str, Place]]:
    yield f"{name}.before", Place(f"before {what}", "before", owners, attribute)
    yield f"{name}.after", Place(f"after {what}, before anybody is told", "after", owners, attribute)


def _places() -> Mapping[str, Place]:
    opens, writes, reads = _stores()
    found = dict[str, Place]()
    for name, what, attribute in (
        ("commit", "a group of the runner is committed", "commit"),
        ("submit", "executions are stored that nobody owns yet: with a key, many, or without room", "insert_unowned"),
        ("fork", "a retry or another fork is stored", "insert_forks"),
        ("command", "a command for an execution that this process does not drive is stored or carried out", "send"),
        ("recover", "a runner is declared dead and what it owned is freed", "recover"),
        ("register", "the runner is registered", "register_runner"),
        ("versions", "the runner says which workflows it has", "register_versions"),
        ("adopt", "executions of another version are taken over or parked", "rewrite"),
        ("prune", "old executions are removed", "prune"),
    ):  # fmt: skip
        found.update(_both(name, what, writes, attribute))
    found["open.before"] = Place("before the database is opened", "before", opens, "writer")
    found["read.before"] = Place("before an execution is read", "before", reads, "execution")
    found["close.before"] = Place("before the database is closed", "before", writes, "close")
    found["lease.hold"] = Place(
        "before the runner takes its lease", "before", (FileLease, ServerLease), "hold"
    )
    found["lease.renew"] = Place("before a lease is renewed", "before", (Pulse,), "trouble", _say_why)
    found["peers.learn"] = Place(
        "before it is read which other runners are alive", "before", (Recovery,), "learn_runners"
    )
    found["claim.after"] = Place(
        "after executions were claimed, before they are driven", "before", (Incarnation,), "_take_over"
    )
    found["body.before"] = Place(
        "after the start of an attempt was committed, before its body runs", "before", (Starts,), "start"
    )
    found["body.after"] = Place(
        "after a body has ended, before anything follows", "before", (Attempt,), "conclude", _fail_body
    )
    found["settle.before"] = Place(
        "before it is decided what follows from the end of an attempt", "before", (Driver,), "settle"
    )
    found["effects.before"] = Place(
        "after a group was committed, before its effects", "before", (Incarnation,), "committed"
    )
    found["result.before"] = Place(
        "after an execution has ended, before those who wait are told", "before", (Hub,), "tell"
    )
    found.update(_both("checkpoint", "a checkpoint of a body is stored", (Courier,), "store"))
    found.update(_both("defer", "a body is stored as deferred", (Courier,), "defer"))
    return found


PLACES: Mapping[str, Place] = MappingProxyType(_places())

FAILPOINTS: Mapping[str, str] = MappingProxyType({name: place.meaning for name, place in PLACES.items()})
"""Every failpoint by its name, with its meaning."""
