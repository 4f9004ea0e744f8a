"""Scripts: rows go in, what a driver raises is raised where the statement stands, and both ways of running agree."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from cloacina.store.script import Rows, Script, run, run_awaiting

Runs = Callable[..., Any]


def awaiting(script: Script[Any], fetch: Callable[..., Rows]) -> Any:
    async def fetch_later(text: str, values: tuple[str, ...]) -> Rows:
        await asyncio.sleep(0)
        return fetch(text, values)

    return asyncio.run(run_awaiting(script, fetch_later))


@pytest.fixture(params=[run, awaiting])
def runs(request: pytest.FixtureRequest) -> Runs:
    return request.param


def test_each_statement_gets_its_rows(runs: Runs) -> None:
    def script() -> Script[str]:
        [(first,)] = yield "one $1", ("a",)
        [(second,)] = yield "two", ()
        return f"{first}, {second}"

    assert runs(script(), lambda text, values: [(f"{text}{values}",)]) == "one $1('a',), two()"


def test_an_error_is_raised_at_its_statement(runs: Runs) -> None:
    ran: list[str] = []

    def fetch(text: str, values: tuple[str, ...]) -> Rows:
        ran.append(text)
        if text == "bad":
            raise LookupError("no")
        return []

    def script() -> Script[None]:
        try:
            yield "bad", ()
        except LookupError:
            yield "undo", ()
            raise

    with pytest.raises(LookupError):
        runs(script(), fetch)
    assert ran == ["bad", "undo"]


def test_a_script_may_do_nothing_or_refuse(runs: Runs) -> None:
    def script(refuses: bool) -> Script[int]:
        if refuses:
            raise ValueError("no")
        return 7
        yield

    assert runs(script(False), None) == 7
    with pytest.raises(ValueError):
        runs(script(True), None)
