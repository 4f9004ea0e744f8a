"""What a tenant is made with and logs in with: what is refused, and that no password is shown."""

from __future__ import annotations

import inspect
import pickle
import traceback
from dataclasses import FrozenInstanceError, replace
from enum import Enum
from typing import Any

import pytest

from cloacina.errors import ValidationError
from cloacina.tenants import BlockingDatabaseAdmin, DatabaseAdmin, TenantConfig, TenantCredentials
from cloacina.tenants.values import draw_password
from support.script import Script

SECRET = "canary-7f1e88d2c0ab"
CREDENTIALS = TenantCredentials("acme", "acme", "cloacina_acme", SECRET, f"postgresql://u:{SECRET}@h/d")


class Stage(str, Enum):  # noqa: UP042 - that is what it is about
    """A name that would write itself otherwise."""

    TEST = "acme"


def test_a_name_is_kept_as_a_plain_text() -> None:
    name = TenantConfig(Stage.TEST).name
    assert (type(name), f"{name}") == (str, "acme")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "Acme"),
        ("name", ""),
        ("name", None),
        ("password", "short"),
        ("password", SECRET + " "),
        ("password", SECRET + "é"),
        ("password", SECRET + "\n"),
        ("password", SECRET.encode()),
        ("password", SECRET * 20),
        ("connection_limit", 0),
        ("connection_limit", 2.0),
        ("connection_limit", True),
        ("connection_limit", "5"),
        ("statement_timeout", 0),
        ("statement_timeout", -1.0),
        ("lock_timeout", float("nan")),
        ("lock_timeout", float("inf")),
        ("idle_in_transaction_timeout", "1; DROP ROLE x"),
    ],
)
def test_what_cannot_be_is_refused_and_no_password_is_shown(field: str, value: Any) -> None:
    with pytest.raises(ValidationError, match=field if field != "name" else "name") as caught:
        TenantConfig(**{"name": "acme", field: value})
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_a_password_is_shown_by_nothing_that_writes_values() -> None:
    config = TenantConfig("acme", password=SECRET)
    for value in (config, CREDENTIALS):
        assert SECRET not in f"{value} {value!r} {[value]} {value!s}"
    assert CREDENTIALS.password == SECRET in CREDENTIALS.url


def test_credentials_are_equal_if_all_of_them_is() -> None:
    assert pickle.loads(pickle.dumps(CREDENTIALS)) == CREDENTIALS
    assert hash(replace(CREDENTIALS)) == hash(CREDENTIALS)
    for field in ("name", "schema", "username", "password", "url"):
        assert replace(CREDENTIALS, **{field: "other"}) != CREDENTIALS
    assert CREDENTIALS != SECRET
    with pytest.raises(FrozenInstanceError):
        CREDENTIALS.password = "x"  # type: ignore[misc]


def test_passwords_that_are_drawn_are_long_and_differ() -> None:
    drawn = {draw_password() for _ in range(100)}
    assert len(drawn) == 100
    assert all(len(password) == 43 for password in drawn)
    assert all(TenantConfig("acme", password=password) for password in drawn)


@pytest.mark.parametrize(
    "prefix", ["", "pg", "pg_x", "Pg", "a-b", "1a", "a" * 15, 'a"', "a\0", "ä", None, 7, "a; DROP ROLE x"]
)
def test_a_bad_prefix_of_roles_is_refused(prefix: Any) -> None:
    with pytest.raises(ValidationError, match="role_prefix"):
        DatabaseAdmin("postgresql://h/d", role_prefix=prefix)


@pytest.mark.parametrize("kind", [DatabaseAdmin, BlockingDatabaseAdmin])
def test_an_administrator_shows_where_but_no_password(kind: Any) -> None:
    shown = repr(kind(f"postgresql://root:{SECRET}@host/jobs?password={SECRET}"))
    assert shown == f"{kind.__name__}('postgresql://root@host/jobs')"


def test_both_administrators_offer_the_same() -> None:
    for name, method in vars(DatabaseAdmin).items():
        if not name.startswith("_"):
            twin = getattr(BlockingDatabaseAdmin, name)
            assert inspect.iscoroutinefunction(method) and not inspect.iscoroutinefunction(twin)
            assert inspect.signature(method) == inspect.signature(twin)
    assert inspect.signature(DatabaseAdmin) == inspect.signature(BlockingDatabaseAdmin)
    assert dir(DatabaseAdmin) == dir(BlockingDatabaseAdmin)


def test_a_missing_driver_is_told_and_needed_for_servers_only(script: Script) -> None:
    ended = script("""
        import sys
        sys.modules["asyncpg"] = None
        from cloacina.errors import MissingExtra
        from cloacina.tenants import DatabaseAdmin, TenantConfig
        DatabaseAdmin("folder")
        try:
            DatabaseAdmin("postgresql://u:canary@h/d")
        except MissingExtra as error:
            print(error)
    """)
    assert "pip install 'cloacina[postgres]'" in ended.stdout, ended.stderr
    assert "canary" not in ended.stdout


@pytest.mark.parametrize("url", ["sqlite://:memory:", "mysql://h/d", "", None, f"postgres:{SECRET}@h"])
def test_what_holds_no_tenants_is_refused(url: Any) -> None:
    with pytest.raises(ValidationError) as caught:
        DatabaseAdmin(url)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("config", ["acme", None, {"name": "acme"}, CREDENTIALS])
def test_a_tenant_is_made_with_a_config(config: Any) -> None:
    with pytest.raises(ValidationError, match="TenantConfig") as caught:
        BlockingDatabaseAdmin("postgresql://h/d").create_tenant(config)
    assert SECRET not in str(caught.value)
