"""The error table: each SQLSTATE in its class, as the failure model has them."""

from __future__ import annotations

import asyncpg
import pytest
from asyncpg import exceptions as pg

from cloacina.errors import StoreBusy, StoreCorrupt, StoreError, StoreRefused, StoreTimeout, StoreUnavailable
from cloacina.store.postgres.server.errors import lost_connection, translate

CLASSES: dict[type[StoreError], str] = {
    StoreBusy: "40001 40P01 55P03 55006 42P06 42P07",
    StoreTimeout: "57014 25P03 25P04",
    StoreUnavailable: "08000 08003 08006 57P01 57P02 57P03 25006 53000 53100 53200 53300 28000 28P01 3D000 3F000 "
    "42P01 42501 42703 42601 25P02 0A000 XX000 58030 55000 F0000 99999",
    StoreRefused: "22000 22001 22003 22021 22P02 22P05 23000 23502 23503 23505 23514 54000 54001",
    StoreCorrupt: "XX001 XX002",
}
CODES = [(code, kind) for kind, codes in CLASSES.items() for code in codes.split()]


def raised(code: str) -> asyncpg.PostgresError:
    """The driver's error for a code, made as the driver makes it from what the server sent."""
    error: asyncpg.PostgresError = pg.PostgresError.new(
        {"C": code, "M": "what it said", "S": "ERROR", "D": "Key (a)"}
    )
    return error


@pytest.mark.parametrize(("code", "kind"), CODES)
def test_a_code_has_its_class_and_names_itself(code: str, kind: type[StoreError]) -> None:
    told = translate(raised(code), "postgresql://me@there/db (schema s)")
    assert type(told) is kind
    for part in (code, "what it said", "postgresql://me@there/db (schema s)", ";"):
        assert part in str(told)


@pytest.mark.parametrize(
    "error",
    [ConnectionResetError("gone"), OSError("no route"), TimeoutError(), asyncpg.InterfaceError("connection is closed"),
     asyncpg.ConnectionDoesNotExistError("closed in the middle"), EOFError()],
)  # fmt: skip
def test_what_ends_a_connection_is_worth_another_try(error: Exception) -> None:
    assert lost_connection(error)
    assert type(translate(error, "db")) is StoreUnavailable


@pytest.mark.parametrize(
    ("code", "lost"),
    [("08006", True), ("57P01", True), ("25006", True), ("25P03", True), ("23505", False), ("40001", False),
     ("53100", False)],
)  # fmt: skip
def test_which_codes_end_a_connection(code: str, lost: bool) -> None:
    assert lost_connection(raised(code)) is lost


def test_a_value_that_the_driver_cannot_send_is_refused_and_ends_nothing() -> None:
    error = asyncpg.DataError("invalid input for query argument $3: 'x'")
    assert not lost_connection(error)
    assert type(translate(error, "db")) is StoreRefused


def test_an_error_of_ours_stays_what_it_is() -> None:
    ours = StoreRefused("no")
    assert translate(ours, "db") is ours


def test_a_long_text_of_several_lines_becomes_a_short_line() -> None:
    told = str(translate(OSError("a\nb" * 1_000), "db"))
    assert "\n" not in told and len(told) < 500
