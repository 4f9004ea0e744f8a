"""Leases on a server: one session that holds a runner's lock, renews its lease, looks at others, and hears the bell.

A lease is a row, and its times are the server's. The lock is an advisory one of that session, so it is gone when the
session is, and everybody can see whether it is there. The bell is a channel whose name only those know who can read
the tables. Behind a pooler there is no session to speak of: there a lease has no lock, and nothing is heard.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import cache
from typing import Any, NamedTuple, TypeVar

import asyncpg

from cloacina.errors import StoreCorrupt
from cloacina.logic.deaths import Sign
from cloacina.store.postgres.location import ServerLocation
from cloacina.store.postgres.render import render
from cloacina.store.postgres.server.connect import connect
from cloacina.store.postgres.server.errors import lost_connection, translate

T = TypeVar("T")

DEADLINE = 5.0
"""Seconds until an answer is no longer waited for, and the connection counts as lost."""

CLOSE_PATIENCE = 1.0
"""Seconds that a goodbye may take."""

# What is lost with a server that crashes is renewed, and a bell that rings needs no disk.
_SETTINGS = {
    "application_name": "cloacina lease",
    "synchronous_commit": "off",
    "statement_timeout": "4s",
    "lock_timeout": "3s",
    "idle_session_timeout": "0",
}

_NOW = "(extract(epoch FROM pg_catalog.clock_timestamp()) * 1000000)::bigint"

_META = "SELECT key, value FROM meta WHERE key IN ('instance', 'bell')"

# After an outcome that nobody knows the row is there already.
_TAKE = f"""
    INSERT INTO leases (runner, renewed, expires, locked, given_up)
    VALUES ($1::text, {_NOW}, {_NOW} + $2::bigint, $3::bigint, false)
    ON CONFLICT (runner) DO UPDATE
    SET renewed = excluded.renewed, expires = excluded.expires, locked = excluded.locked"""

# A runner that was declared dead does not come back, even if its lease is still there. One that holds its lease
# and is not registered yet does.
_RENEW = f"""
    UPDATE leases SET renewed = {_NOW}, expires = {_NOW} + $2::bigint, locked = $3::bigint
    WHERE runner = $1::text AND NOT given_up
        AND NOT EXISTS (SELECT 1 FROM runners WHERE id = $1::text AND state <> 'alive')
    RETURNING 1"""

_LOOK = f"""
    WITH mine AS ({_RENEW}),
    held AS MATERIALIZED (
        SELECT (classid::bigint << 32) | objid::bigint AS key FROM pg_catalog.pg_locks
        WHERE locktype = $4::text AND objsubid = 1 AND granted AND database = (
            SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())),
    known AS (
        SELECT runner, renewed, expires, locked, given_up FROM leases WHERE runner <> $1::text
        UNION ALL
        SELECT id, NULL, NULL, NULL, false FROM runners
        WHERE state = 'alive' AND id <> $1::text AND NOT EXISTS (SELECT 1 FROM leases WHERE runner = id))
    SELECT EXISTS (SELECT 1 FROM mine) AS renewed_mine, server.now, server.up_since, runner, renewed,
        COALESCE(expires, 0) AS expires, given_up,
        CASE WHEN locked IS NOT NULL THEN EXISTS (SELECT 1 FROM held WHERE key = locked) END AS held
    FROM (SELECT {_NOW} AS now,
        (extract(epoch FROM pg_catalog.pg_postmaster_start_time()) * 1000000)::bigint AS up_since) AS server
    LEFT JOIN known ON true"""

_GIVE_UP = "UPDATE leases SET given_up = true WHERE runner = $1"
_REMOVE = "DELETE FROM leases WHERE runner = $1"
_LOCK = "SELECT pg_catalog.pg_try_advisory_lock($1::bigint)"
_UNLOCK = "SELECT pg_catalog.pg_advisory_unlock($1::bigint)"
_NOTIFY = "SELECT pg_catalog.pg_notify($1, '')"

_ADVISORY = "advisory"


class Seen(NamedTuple):
    """What `Leases.look` found. Times are microseconds by the server's clock."""

    renewed: bool
    """True if the lease of the runner that looks was renewed; False if it has none any more."""
    now: int
    up_since: int
    """When the server was started."""
    signs: dict[str, Sign]
    """All other runners that have a lease or count as alive, by their ids."""


class Leases:
    """See the module's text. Belongs to the event loop on which it was opened. All raises `StoreError`."""

    instance: str
    _channel: str

    def __init__(self, location: ServerLocation, raw: asyncpg.Connection, pooled: bool) -> None:
        self._location = location
        self._raw = raw
        self._turn = asyncio.Lock()
        self.pooled = pooled
        """True if a pooler sits between: there are no locks then, and nothing is heard."""
        self.lost = asyncio.Event()
        """Set when the connection has ended."""
        raw.add_termination_listener(lambda _: self.lost.set())

    @classmethod
    async def open(cls, location: ServerLocation) -> Leases:
        """Connect to a schema that was prepared."""
        raw, pooled = await connect(location, settings=_SETTINGS)
        leases = cls(location, raw, pooled)
        try:
            found: dict[str, str] = {row["key"]: row["value"] for row in await leases._run(_META)}
            if len(found) < 2:
                raise StoreCorrupt(f"database {location} is incomplete: it lacks what tells it from others")
        except BaseException:
            leases.drop()
            raise
        leases.instance = found["instance"]
        leases._channel = channel(found["bell"])
        return leases

    async def lock(self, key: int) -> bool:
        """Take a lock for the rest of the session; False if somebody else has it."""
        return bool(await self._value(_LOCK, key))

    async def take(self, runner: str, lease: float, key: int | None) -> None:
        """Make the lease of a runner, for ``lease`` seconds; ``key`` is that of its lock, if it has one."""
        await self._run(_TAKE, runner, _microseconds(lease), key)

    async def renew(self, runner: str, lease: float, key: int | None) -> bool:
        """Let the lease run for ``lease`` seconds from now; False if the runner has none any more."""
        return await self._value(_RENEW, runner, _microseconds(lease), key) is not None

    async def look(self, runner: str, lease: float, key: int | None) -> Seen:
        """Renew the lease of ``runner`` as `renew` does, and look at all others, with one statement."""
        rows = await self._run(_LOOK, runner, _microseconds(lease), key, _ADVISORY)
        signs = {
            row["runner"]: Sign(row["renewed"], row["expires"], row["held"], row["given_up"])
            for row in rows
            if row["runner"] is not None
        }
        return Seen(rows[0]["renewed_mine"], rows[0]["now"], rows[0]["up_since"], signs)

    async def give_up(self, runner: str) -> None:
        """Say that the runner let go on purpose: it is dead at once."""
        await self._run(_GIVE_UP, runner)

    async def remove(self, runner: str, key: int | None = None) -> None:
        """Remove the lease of a runner that is committed dead or stopped, and free its lock if it is ours."""
        await self._run(_REMOVE, runner)
        if key is not None:
            await self._run(_UNLOCK, key)

    async def listen(self, heard: Callable[[], None]) -> None:
        """Call ``heard`` whenever another session rings the bell."""
        mine = self._raw.get_server_pid()

        def told(_: object, pid: int, __: str, ___: object) -> None:
            if pid != mine:
                heard()

        async with self._turn:
            await self._answered(self._raw.add_listener(self._channel, told))

    async def ring(self) -> None:
        """Tell all who listen that something was committed."""
        await self._run(_NOTIFY, self._channel)

    async def close(self) -> None:
        """End the session, after what is being asked of it."""
        with suppress(Exception):
            async with asyncio.timeout(CLOSE_PATIENCE), self._turn:
                await self._raw.close()
        self.drop()

    def drop(self) -> None:
        """End the connection without a word."""
        self._raw.terminate()
        self.lost.set()

    async def _value(self, text: str, *params: object) -> Any:
        rows = await self._run(text, *params)
        return rows[0][0] if rows else None

    async def _run(self, text: str, *params: object) -> list[asyncpg.Record]:
        """Run one statement; behind a pooler in a transaction, since each may have another session."""
        rendered = _rendered(text, self._location.schema)
        async with self._turn:
            if not self.pooled:
                return await self._answered(self._raw.fetch(rendered, *params))
            return await self._answered(self._alone(rendered, params))

    async def _alone(self, text: str, params: tuple[object, ...]) -> list[asyncpg.Record]:
        async with self._raw.transaction():
            return await self._raw.fetch(text, *params)

    async def _answered(self, work: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout(DEADLINE):
                return await work
        except Exception as error:
            if lost_connection(error):
                self.drop()
            raise translate(error, str(self._location)) from error


def channel(bell: str) -> str:
    """The name of the channel on which the runners of a schema listen; ``bell`` is its secret."""
    return "c_" + hashlib.sha256(bell.encode()).hexdigest()[:40]


def lock_key(instance: str, runner: str, session: int) -> int:
    """The key of a runner's lock in one session: no other database's, no other runner's, not that of a session before.

    The server may need a while to find that a session has ended, and until then it keeps the lock of that one.
    """
    digest = hashlib.sha256(f"{instance}/{runner}/{session}".encode()).digest()
    return int.from_bytes(digest[:8], signed=True)


@cache
def _rendered(text: str, schema: str) -> str:
    return render(text, schema)


def _microseconds(seconds: float) -> int:
    return round(seconds * 1e6)
