"""The order: what a test tells a program to do, in a process of its own."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, TypeAlias

import msgspec

Pace: TypeAlias = Literal["in turn", "at once", "to the end"]


class Ask(NamedTuple):
    """One execution to submit: ``number`` is unique in its ledger and the input's ``n``."""

    number: int
    shape: str
    key: str | None = None
    """A key; one ask with a key may be made again and again."""


class Fault(msgspec.Struct, frozen=True):
    """What happens to the process at its ``at``-th transaction, or its ``at``-th write or sync of a file."""

    kind: str
    """kill- or freeze-, and then before-begin, before-commit, after-commit; kill-io; fail-io; kill-step.

    A step is a write or sync that SQLite makes, or a file that anybody renames, links, removes or cuts off.
    """
    at: int
    times: int = 1
    """At how many in a row."""
    dies: bool = False
    """For a freeze: after the thaw it is killed as soon as it has committed something."""
    full: bool = False
    """For fail-io: the disk is full, rather than broken."""
    once_up: bool = False
    """Count from when the runner is up and at rest, rather than from the start of the process."""


class Order(msgspec.Struct, frozen=True):
    """See the module's text."""

    database: str
    schema: str | None
    ledger: str
    asks: tuple[Ask, ...] = ()
    first: tuple[Ask, ...] = ()
    """Asks to run to their end before the asks, and before a fault that waits for the runner to be up."""
    later: tuple[Ask, ...] = ()
    """Asks of which the next is submitted and waited for at each SIGUSR1."""
    settings: dict[str, Any] = {}
    fault: Fault | None = None
    trace: str | None = None
    """Where to write down everything that goes to the disk."""
    stay: bool = False
    """Run until SIGTERM; else until every execution in the database has ended."""
    client: bool = False
    """Only submit, and do what the shapes say is done to them; run nothing."""
    batch: tuple[Ask, ...] = ()
    """Asks of one shape, without keys, to submit together before the others, all or none."""
    edition: int = 1
    """2 for the newer versions of the shapes that have one."""
    held: bool = False
    """Wait at the gate before anything else."""
    alone: bool = False
    """Run on after that until no other runner counts as alive."""
    pace: Pace = "in turn"
    """Submit one ask after the other, all of them together, or each after the end of the one before."""
    flood: int = 0
    """Submit so many more executions of ``single`` at once, as far as they are taken."""
    upkeep: tuple[str, ...] = ()
    """``backup`` and paths: copy the database to each, one after the other, while it works. ``restore`` and a
    path: put that backup back, and do nothing else."""
