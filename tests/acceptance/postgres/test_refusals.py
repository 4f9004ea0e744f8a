"""Databases that cannot be opened: one clear line that names the place and the remedy, and never the password."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Iterator

import pytest

from cloacina import Client, Runner
from cloacina.errors import CloacinaError, StoreUnavailable, ValidationError
from support.postgres.server import PostgresServer, free_port

SECRET = "hush-5EcR3t"

Desk = Callable[..., Runner | Client]


def refused_by_server(server: PostgresServer) -> dict[str, tuple[str, str]]:
    """URLs, and what is said of each."""
    known = f"app:{SECRET}@127.0.0.1:{server.port}"
    return {
        "wrong password": (
            f"postgresql://postgres:{SECRET}@127.0.0.1:{server.port}/postgres",
            "refused the login",
        ),
        "unknown user": (f"postgresql://who:{SECRET}@127.0.0.1:{server.port}/postgres", "refused the login"),
        "password as a parameter": (
            f"postgresql://postgres@127.0.0.1:{server.port}/postgres?password={SECRET}",
            "refused the login",
        ),
        "no such database": (f"postgresql://{known}/not_there", "does not exist"),
        "no such schema": (f"postgresql://{known}/postgres", "has no such schema"),
        "nobody listens": (
            f"postgresql://app:{SECRET}@127.0.0.1:{free_port()}/postgres",
            "cannot be reached",
        ),
        "no such host": (f"postgresql://app:{SECRET}@nowhere.invalid/postgres", "cannot be reached"),
        "no encryption": (f"postgresql://{known}/postgres?sslmode=require", "cannot be reached"),
        "odd parameter": (f"postgresql://{known}/postgres?sslmode=nonsense", "cannot be reached"),
        "no such socket": (f"postgresql://app:{SECRET}@/postgres?host=/nowhere", "cannot be reached"),
    }


@pytest.fixture(scope="module")
def role(postgres: PostgresServer) -> Iterator[None]:
    postgres.execute(f"CREATE ROLE app LOGIN PASSWORD '{SECRET}'")
    yield
    postgres.execute("DROP ROLE app")


@pytest.mark.usefixtures("role")
@pytest.mark.parametrize("desk", [Runner, Client])
@pytest.mark.parametrize(
    "case",
    ["wrong password", "unknown user", "password as a parameter", "no such database", "no such schema",
     "nobody listens", "no such host", "no encryption", "odd parameter", "no such socket"],
)  # fmt: skip
async def test_what_the_server_refuses(
    postgres: PostgresServer, caplog: pytest.LogCaptureFixture, desk: Desk, case: str
) -> None:
    url, said = refused_by_server(postgres)[case]
    told = await refusal(desk(url, schema="nobodys"), caplog, StoreUnavailable)
    assert said in told
    assert ("nowhere" if "nowhere" in url and "@/" not in url else "postgresql://") in told


@pytest.mark.parametrize("desk", [Runner, Client])
@pytest.mark.parametrize(
    "url",
    [
        f"postgresql:/app:{SECRET}@localhost/work",
        f"postgresql:app:{SECRET}@localhost/work",
        f"postgresql://app:{SECRET}@localhost:port/work",
        f"postgresql://app:{SECRET}@local host/work",
        f"postgresql://app:pass/{SECRET}@localhost/work",
        f"postgresql://app:pass#{SECRET}@localhost/work",
        f"postgresql://app:pass?{SECRET}@localhost/work",
        f"postgresql://app:{SECRET}@localhost/work?port=x",
        f"postgresql://app:{SECRET}@[::1/work",
        f"mysql://app:{SECRET}@localhost/work",
    ],
)
async def test_what_is_no_url(caplog: pytest.LogCaptureFixture, desk: Desk, url: str) -> None:
    await refusal(desk(url), caplog, ValidationError)


@pytest.mark.parametrize(
    "schema", ["Tenant", "pg_mine", "public", "a-b", 'x"; DROP SCHEMA x', "", "é", "a" * 49]
)
async def test_what_names_no_schema(
    caplog: pytest.LogCaptureFixture, postgres: PostgresServer, schema: str
) -> None:
    assert "cannot name a schema" in await refusal(
        Runner(f"postgresql://app:{SECRET}@localhost/work", schema=schema), caplog, ValidationError
    )


async def refusal(desk: Runner | Client, caplog: pytest.LogCaptureFixture, kind: type[CloacinaError]) -> str:
    """The line that somebody is told who opens ``desk``, which must have no secret in it, however it is looked at."""
    caplog.set_level(logging.DEBUG, "cloacina")
    with pytest.raises(kind) as caught:
        async with desk:
            raise AssertionError("it opened")
    told = str(caught.value)
    shown = [told, repr(caught.value), repr(desk), caplog.text, *traceback.format_exception(caught.value)]
    assert not [text for text in shown if SECRET in text]
    assert "\n" not in told
    return told
