"""Locations on a server: which URLs are read, which schemas are refused, and that no password is ever shown."""

from __future__ import annotations

import pytest

from cloacina.errors import ValidationError
from cloacina.store.location import Location, read_location
from cloacina.store.postgres.location import ServerLocation, check_schema

SECRET = "s3cr3t"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (f"postgresql://me:{SECRET}@host:5433/db", "postgresql://me@host:5433/db (schema cloacina)"),
        (f"postgres://me:{SECRET}@host/db", "postgresql://me@host/db (schema cloacina)"),
        (f"postgresql+asyncpg://me:{SECRET}@host/db", "postgresql://me@host/db (schema cloacina)"),
        (f"POSTGRESQL://me:{SECRET}@host/db", "postgresql://me@host/db (schema cloacina)"),
        (f"postgresql://host/db?user=me&password={SECRET}", "postgresql://host/db (schema cloacina)"),
        (f"postgresql://me:{SECRET}@a:1,b:2/db", "postgresql://me@a:1,b:2/db (schema cloacina)"),
        (f"postgresql://me:{SECRET}@[::1]:5432/db", "postgresql://me@[::1]:5432/db (schema cloacina)"),
        ("postgresql:///db?host=/run/postgresql", "postgresql:///db (schema cloacina)"),
        ("postgresql://", "postgresql:// (schema cloacina)"),
    ],
)
def test_a_url_is_read_and_shown_without_its_password(url: str, shown: str) -> None:
    location = read_location(url)
    assert isinstance(location, ServerLocation)
    assert str(location) == shown
    assert SECRET not in repr(location)
    assert SECRET in location.url or SECRET not in url


@pytest.mark.parametrize(
    "url",
    [
        "postgresql:db", "postgres:/db", f"postgresql://me:{SECRET}/x@host/db", f"postgresql://me:12/{SECRET}@host/db",
        f"postgresql://me:{SECRET}#x@host/db", f"postgresql://me:{SECRET}@host:port/db", f"postgresql://[::1:{SECRET}/db",
        f"postgresql://me:{SECRET}@ho st/db", f"postgresql://me:{SECRET}@host/db?x", f"postgresql://me:{SECRET}@host/%00db",
        f"postgresql://me:{SECRET}\0@host/db", f"postgresql://me:{SECRET}\ud800@host/db",
        f"postgresql:///db?password={SECRET}&port=x",
    ],
)  # fmt: skip
def test_a_url_that_cannot_be_read_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ValidationError, match="postgresql://user:password@host") as caught:
        read_location(url)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("name", ["a", "tenant_a", "t0", "select", "user", "x" * 48])
def test_a_schema_has_a_plain_name(name: str) -> None:
    location = read_location("postgresql://h/d", name)
    assert isinstance(location, ServerLocation) and location.schema == name


@pytest.mark.parametrize(
    "name",
    ["", "A", "tenantA", "0a", "_a", "a-b", "a b", "a.b", 'a"b', "a;b", "a'", "ä", "a\n", "x" * 49, "public", "pg_x",
     "information_schema", "$user", "a\0", 7, None, b"a"],
)  # fmt: skip
def test_any_other_schema_is_refused(name: object) -> None:
    with pytest.raises(ValidationError, match="schema"):
        check_schema(name)


def test_a_schema_is_for_a_server_only() -> None:
    with pytest.raises(ValidationError, match="file of its own"):
        read_location("sqlite:///x.db", "tenant_a")
    assert isinstance(read_location("sqlite:///x.db"), Location)
