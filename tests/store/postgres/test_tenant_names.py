"""Hostile names: none of them gets past the door, through whichever it comes, and nothing changes on the server."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from cloacina.blocking import BlockingClient, BlockingRunner
from cloacina.client import Client
from cloacina.errors import CloacinaError, StoreError, ValidationError
from cloacina.runner import Runner
from cloacina.settings import Settings
from cloacina.store.location import read_location
from cloacina.store.postgres.location import ServerLocation, check_schema, server_location
from cloacina.tenants import BlockingDatabaseAdmin, DatabaseAdmin, TenantConfig
from support.postgres.server import PostgresServer
from support.tenants import database_of, tenants_on

SEEDS = (
    """
acme"; DROP SCHEMA public CASCADE; --|acme'; DROP ROLE postgres; --|"acme"|'acme'|`acme`|acme"."meta|acme.meta|a;b|a--b
a/*b*/|$user|"$user"|$1|$$|%s|%I|{0}|{schema}|?1|:name|@name|a b|a\tb|a\rb|a\vb|a\0|\0|a\\b|\\x41|E'a'|U&"a"|a,b
pg_catalog|pg_toast|pg_temp|pg_temp_1|pg_x|pg_|public|information_schema|PUBLIC|Public|PG_X|Acme|ACME|aCME|_acme|1acme
9|-1|0x41|acme-|acme.|.|..|../acme|/etc/passwd|acme.db|a:b|a@b|a#b|a?b|a&b|a=b|a+b|a*b|a(b|a)b|a[b|a]b|a<b|a>b|a!b|a~b
“acme”|‘acme’|＂acme＂|＇acme＇|«acme»|acme；|ａcme|аcme|аcmе|ácme|a\u0301cme|a\u200bcme|\ufeffacme|a\u202ecme|aǆcme
ſelect|ıstanbul|İstanbul|ß|ﬀ|Ⅷ|٣acme|acme٣|acme²|acme\u00a0|a\u2028b|😀|a\ud800|\x7f|a\x1b[2J|a\x85b
SELECT|Table|None|null |true |x\u0000y|sqlite:///x|postgresql://h/d|--|;|''|""|\\|%00|%22|&quot;
""".strip("\n")
    .replace("\n", "|")
    .split("|")
)
TOO_LONG = ["a" * 49, "a" * 63, "a" * 64, "a" * 65, "a" * 1000, "a" * 100_000, "a" * 47 + "é", "é" * 24]
NO_TEXTS: list[Any] = [
    b"acme",
    0,
    1,
    1.5,
    True,
    False,
    ["acme"],
    ("acme",),
    {"a": 1},
    {"acme"},
    object(),
    Path("acme"),
]
ORDINARY = re.compile("[a-z][a-z0-9_]{0,47}")
RESERVED = ("public", "information_schema")
FRAMES = ("{}", "acme{}", "{}acme", "a{}b", " {}", "{}\n")


def _hostile() -> list[Any]:
    made = [frame.format(seed) for seed, frame in itertools.product(SEEDS, FRAMES)]
    bad = [
        name for name in made if not ORDINARY.fullmatch(name) or name in RESERVED or name.startswith("pg_")
    ]
    return [*dict.fromkeys(["", " ", "\n", *TOO_LONG, *bad]), *NO_TEXTS]


HOSTILE = _hostile()
PREFIXES = [name for name in HOSTILE if name not in RESERVED]


def test_there_are_many_and_each_is_refused() -> None:
    assert len(HOSTILE) > 500
    for name in HOSTILE:
        with pytest.raises(ValidationError) as caught:
            check_schema(name)
        message = str(caught.value)
        assert message.isprintable() and message.replace("…", "").isascii() and len(message) < 400


Door = Callable[[str, Any], object]


def _entered(opened: Any) -> None:
    with opened:
        raise AssertionError("it was let in")


async def _awaited(opened: Any) -> None:
    async with opened:
        raise AssertionError("it was let in")


QUIET = Settings()
DOORS: dict[str, Door] = {
    "ServerLocation": ServerLocation,
    "server_location": server_location,
    "read_location": read_location,
    "Runner": lambda url, name: asyncio.run(_awaited(Runner(url, schema=name, settings=QUIET))),
    "Client": lambda url, name: asyncio.run(_awaited(Client(url, schema=name, settings=QUIET))),
    "BlockingRunner": lambda url, name: _entered(BlockingRunner(url, schema=name, settings=QUIET)),
    "BlockingClient": lambda url, name: _entered(BlockingClient(url, schema=name, settings=QUIET)),
    "TenantConfig": lambda url, name: TenantConfig(name),
    "create_tenant": lambda url, name: BlockingDatabaseAdmin(url).create_tenant(forged(name)),
    "remove_tenant": lambda url, name: BlockingDatabaseAdmin(url).remove_tenant(name),
    "DatabaseAdmin.remove_tenant": lambda url, name: asyncio.run(DatabaseAdmin(url).remove_tenant(name)),
    "role_prefix": lambda url, name: BlockingDatabaseAdmin(url, role_prefix=name),
}


def forged(name: Any) -> TenantConfig:
    """A config whose name was never looked at."""
    config = TenantConfig("acme")
    object.__setattr__(config, "name", name)
    return config


@pytest.fixture(scope="module")
def admin(postgres: PostgresServer) -> Iterator[BlockingDatabaseAdmin]:
    with tenants_on(postgres) as administrator:
        administrator.create_tenant(TenantConfig("acme"))
        postgres.execute("CREATE TABLE public.precious AS SELECT 7 AS x", database=database_of(administrator))
        yield administrator


def everything(server: PostgresServer, database: str) -> list[Any]:
    """Schemas, roles, databases, and what is in ``public``."""
    return [
        server.execute(
            "SELECT oid, nspname, nspowner, nspacl::text FROM pg_namespace ORDER BY oid", database=database
        ),
        server.execute("SELECT oid, rolname, rolsuper, rolcanlogin, rolpassword FROM pg_authid ORDER BY oid"),
        server.execute("SELECT oid, datname, datacl::text FROM pg_database ORDER BY oid"),
        server.execute(
            "SELECT oid, relname, relnamespace FROM pg_class WHERE relnamespace >= 'public'::regnamespace ORDER BY oid",
            database=database,
        ),
        server.execute("SELECT x FROM public.precious", database=database),
    ]


@pytest.mark.parametrize("door", DOORS)
def test_no_hostile_name_gets_in(postgres: PostgresServer, admin: BlockingDatabaseAdmin, door: str) -> None:
    before = everything(postgres, database_of(admin))
    url = postgres.url(database_of(admin))
    for name in HOSTILE if door != "role_prefix" else PREFIXES:
        with pytest.raises(ValidationError) as caught:
            DOORS[door](url, name)
        assert postgres.password not in str(caught.value)
    assert everything(postgres, database_of(admin)) == before


def test_no_hostile_name_gets_in_through_the_url(
    postgres: PostgresServer, admin: BlockingDatabaseAdmin
) -> None:
    """As the name of a database, which may be anything: there is none, or it cannot be meant."""
    before = everything(postgres, database_of(admin))
    base = postgres.url("missing")
    for name in HOSTILE[::7]:
        with pytest.raises(CloacinaError) as caught:
            _entered(BlockingRunner(f"{base}{name}", settings=QUIET))
        assert postgres.password not in str(caught.value)
        assert isinstance(caught.value, (ValidationError, StoreError)), repr(name)
    assert everything(postgres, database_of(admin)) == before


@pytest.mark.parametrize(
    "query",
    [
        "search_path=public",
        "options=-csearch_path%3Dpublic",
        "search_path=acme%22%3B+DROP+SCHEMA+public+CASCADE",
        "schema=public",
        "role=t_none",
    ],
)
def test_a_schema_in_the_url_leads_nowhere_else(
    postgres: PostgresServer, admin: BlockingDatabaseAdmin, query: str
) -> None:
    before = everything(postgres, database_of(admin))
    with (
        suppress(CloacinaError),
        BlockingRunner(
            f"{postgres.url(database_of(admin))}?{query}", schema="acme", settings=QUIET
        ) as runner,
    ):
        assert runner.list() == []
    assert everything(postgres, database_of(admin)) == before
