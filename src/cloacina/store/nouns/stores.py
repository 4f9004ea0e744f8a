"""The stores, as far as they are alike on every database: each call goes to the noun that it is about."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

from cloacina.model.status import ExecutionStatus, Reason
from cloacina.store.nouns import checkpoints, commands, forks, reads, retention, runners
from cloacina.store.nouns import versions as version_rows
from cloacina.store.rows import (
    Command,
    Expired,
    ExpiryLook,
    Fork,
    InFlight,
    Rewrite,
    RunnerRow,
)
from cloacina.store.session import Session

S = TypeVar("S", bound=Session)


class CommonWriter(Generic[S]):
    """The part of a `WriteStore` that needs no dialect."""

    def __init__(self, connection: S) -> None:
        self._connection = connection

    def register_runner(self, row: RunnerRow) -> None:
        runners.register(self._connection, row)

    def void(self, runner: str, number: int) -> bool:
        return runners.void(self._connection, runner, number)

    def register_versions(self, runner: str, versions: Sequence[tuple[str, str, str]], now: int) -> None:
        version_rows.offer(self._connection, runner, versions, now)

    def rewrite(self, runner: str, rewrites: Sequence[Rewrite], now: int) -> list[str]:
        return version_rows.rewrite(self._connection, runner, rewrites, now)

    def insert_forks(self, made: Sequence[Fork], once: bool) -> list[str | None]:
        return forks.insert(self._connection, made, once)

    def recover(self, runner: str, reason: Reason, now: int) -> int:
        return runners.recover(self._connection, runner, reason, now)

    def free_orphans(self, now: int) -> int:
        return runners.free_orphans(self._connection, now)

    def send(self, command: Command, *, again: bool = False) -> tuple[ExecutionStatus, bool] | None:
        return commands.send(self._connection, command, again)

    def missing(self, executions: Sequence[str]) -> list[str]:
        return reads.missing(self._connection, executions)

    def instance(self) -> str:
        return reads.instance(self._connection)

    def prune(self, executions: Sequence[str]) -> list[str]:
        return retention.prune(self._connection, executions)

    def forget_runners(self, before: int) -> int:
        return retention.forget_runners(self._connection, before)


class CommonReader(Generic[S]):
    """The part of a `ReadStore` that needs no dialect."""

    def __init__(self, connection: S) -> None:
        self._connection = connection

    def commands(self, runner: str) -> list[Command]:
        return commands.of_owner(self._connection, runner)

    def checkpoints(self, execution: str, task: str) -> dict[str, str]:
        return checkpoints.stored(self._connection, execution, task)

    def outstanding(self, command: str) -> bool:
        return commands.outstanding(self._connection, command)

    def workflows(self) -> list[str]:
        return version_rows.workflows(self._connection)

    def dag(self, workflow: str, version: str | None) -> tuple[str, str] | None:
        return version_rows.dag(self._connection, workflow, version)

    def stranded(
        self, versions: Sequence[tuple[str, str]], known: Sequence[str], limit: int
    ) -> list[InFlight]:
        return version_rows.stranded(self._connection, versions, known, limit)

    def in_flight(self, after: str, limit: int) -> list[InFlight]:
        return version_rows.in_flight(self._connection, after, limit)

    def forks_of(self, executions: Sequence[str]) -> dict[str, str]:
        return forks.forks_of(self._connection, executions)

    def expired(self, look: ExpiryLook) -> Expired:
        return retention.expired(self._connection, look)

    def ended(self, ids: Sequence[str]) -> list[str]:
        return reads.ended(self._connection, ids)

    def pending(self) -> int:
        return reads.pending(self._connection)

    def next_wake_up(self, versions: Sequence[tuple[str, str]]) -> int | None:
        return reads.next_wake_up(self._connection, versions)

    def instance(self) -> str:
        return reads.instance(self._connection)

    def runners(self) -> list[RunnerRow]:
        return runners.alive(self._connection)

    def versions(self, workflow: str) -> list[str]:
        return version_rows.versions(self._connection, workflow)

    def offered(self, workflow: str, version: str) -> list[str]:
        return version_rows.offered(self._connection, workflow, version)
