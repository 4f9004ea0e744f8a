"""The notebook of an attempt: what it stores, what it gives back, what it refuses; on a loop and without one."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import date
from typing import Any

import pytest

from cloacina.engine.bodies.notebook import Notebook, to_end
from cloacina.errors import CheckpointError, StoreRefused
from cloacina.model.context.context import Context
from cloacina.model.context.keys import Key
from cloacina.model.json.values import Limits


class Shelf:
    """A `Book` in memory. ``refuses`` is raised in place of storing."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.reads = 0
        self.refuses: Exception | None = None

    async def stored(self) -> dict[str, str]:
        self.reads += 1
        return dict(self.values)

    async def store(self, name: str, value: str) -> None:
        if self.refuses is not None:
            raise self.refuses
        assert name not in self.values
        self.values[name] = value


class Attempts:
    """Attempts of one task, one after the other, over one shelf."""

    def __init__(self, kind: str, limits: Limits | None = None) -> None:
        self.is_async = kind == "async"
        self.shelf = Shelf()
        self.limits = limits or Limits()
        self.begin()

    def begin(self) -> Context:
        notebook = Notebook(self.shelf, self.limits, is_async=self.is_async)
        self.ctx = Context.over({"rows": [1]}, checkpoints=notebook)
        return self.ctx

    async def checkpoint(self, name: Any, fn: Any) -> Any:
        found = self.ctx.checkpoint(name, fn)
        return await found if self.is_async else found


@pytest.fixture(params=["async", "def"])
def attempts(request: pytest.FixtureRequest) -> Attempts:
    return Attempts(request.param)


@dataclass
class Order:
    id: int
    due: date


ORDER = Key("order", Order)
VALUES: list[tuple[Any, Any, Any, str]] = [
    ("n", 5, 5, "5"),
    ("nothing", None, None, "null"),
    ("tuple", (1, (2,)), [1, [2]], "[1,[2]]"),
    ("model", Order(1, date(2026, 1, 2)), {"id": 1, "due": "2026-01-02"}, '{"id":1,"due":"2026-01-02"}'),
    (ORDER, Order(1, date(2026, 1, 2)), Order(1, date(2026, 1, 2)), '{"id":1,"due":"2026-01-02"}'),
    (Key("price", float), 5, 5.0, "5"),
]


@pytest.mark.parametrize(("name", "value", "given", "text"), VALUES)
async def test_every_attempt_gets_the_same_form(
    attempts: Attempts, name: Any, value: Any, given: Any, text: str
) -> None:
    calls: list[int] = []

    def fn() -> Any:
        calls.append(1)
        return value

    first = await attempts.checkpoint(name, fn)
    attempts.begin()
    again = await attempts.checkpoint(name, fn)
    assert (first, again, type(first), calls) == (given, given, type(again), [1])
    assert list(attempts.shelf.values.values()) == [text]


async def test_an_async_body_may_give_an_async_function() -> None:
    attempts = Attempts("async")

    async def fetch(n: int) -> int:
        await asyncio.sleep(0)
        return n

    forms: dict[str, Callable[[], Awaitable[int]]] = {
        "partial": functools.partial(fetch, 1),
        "lambda": lambda: fetch(2),
    }
    found = [await attempts.checkpoint(name, fn) for name, fn in forms.items()]
    assert found == [1, 2]


async def test_a_def_body_may_not() -> None:
    attempts = Attempts("def")

    async def fetch() -> int:
        return 1

    with pytest.raises(CheckpointError, match="'x': its function is async, and the body is a def"):
        await attempts.checkpoint("x", fetch)
    assert attempts.shelf.values == {}


async def test_what_the_caller_does_to_a_value_is_not_stored(attempts: Attempts) -> None:
    value = await attempts.checkpoint("rows", lambda: [1])
    value.append(2)
    attempts.begin()
    assert await attempts.checkpoint("rows", list) == [1]


async def test_the_store_is_read_once_an_attempt(attempts: Attempts) -> None:
    for n in range(5):
        await attempts.checkpoint(f"c{n}", lambda: 1)
    assert attempts.shelf.reads == 1


async def test_a_name_is_used_once_in_an_attempt(attempts: Attempts) -> None:
    for _ in range(2):
        await attempts.checkpoint("x", lambda: 1)
        with pytest.raises(CheckpointError, match="checkpoint 'x' was used in this attempt already"):
            await attempts.checkpoint("x", lambda: 2)
        with pytest.raises(CheckpointError, match="already"):
            await attempts.checkpoint(Key("x", int), lambda: 2)
        attempts.begin()


async def test_a_name_is_not_used_up_by_a_function_that_fails(attempts: Attempts) -> None:
    def fails() -> int:
        raise ConnectionError("not now")

    for _ in range(2):
        with pytest.raises(ConnectionError, match="not now"):
            await attempts.checkpoint("x", fails)
    assert attempts.shelf.values == {}
    assert await attempts.checkpoint("x", lambda: 3) == 3


async def test_a_name_is_used_up_by_a_value_that_may_be_stored(attempts: Attempts) -> None:
    attempts.shelf.refuses = StoreRefused("not this")
    with pytest.raises(StoreRefused):
        await attempts.checkpoint("x", lambda: 1)
    attempts.shelf.refuses = None
    with pytest.raises(CheckpointError, match="already"):
        await attempts.checkpoint("x", lambda: 1)


async def test_checkpoints_of_one_body_run_side_by_side() -> None:
    attempts, both = Attempts("async"), asyncio.Barrier(2)

    async def meet(n: int) -> int:
        await both.wait()
        return n

    async def part(n: int) -> None:
        attempts.ctx[f"part{n}"] = await attempts.checkpoint(f"part {n}", functools.partial(meet, n))

    await asyncio.wait_for(asyncio.gather(part(1), part(2)), 20)
    assert attempts.ctx.patch() == {"set": {"part1": 1, "part2": 2}}
    twice = await asyncio.gather(
        *(attempts.checkpoint("same", lambda: asyncio.sleep(0, 1)) for _ in range(2)), return_exceptions=True
    )
    assert twice[0] == 1 and isinstance(twice[1], CheckpointError)


class Steps:
    """Functions that change the context, each in a way of its own."""

    def __init__(self, ctx: Context) -> None:
        self.ctx = ctx
        self.rows = ctx["rows"]

    def assign(self) -> int:
        self.ctx["new"] = 1
        return 1

    def append(self) -> int:
        self.ctx["rows"].append(2)
        return 1

    def through_a_closure(self) -> int:
        self.rows.append(2)
        return 1


@pytest.mark.parametrize("how", ["assign", "append", "through_a_closure"])
async def test_a_function_that_changes_the_context_stores_nothing(attempts: Attempts, how: str) -> None:
    steps = Steps(attempts.ctx)
    with pytest.raises(CheckpointError, match="checkpoint 'x': its function changes the context"):
        await attempts.checkpoint("x", getattr(steps, how))
    assert attempts.shelf.values == {}


BAD_VALUES = {
    "not json": (lambda: object(), "object"),
    "not a number": (lambda: {"x": [float("nan")]}, r"x\.x\[0\]"),
    "too large": (lambda: "x" * 2_000, "bytes"),
}


@pytest.mark.parametrize("kind", ["async", "def"])
@pytest.mark.parametrize("case", BAD_VALUES)
async def test_a_value_that_cannot_be_stored_is_refused_with_its_path(kind: str, case: str) -> None:
    fn, told = BAD_VALUES[case]
    attempts = Attempts(kind, Limits(1_000))
    with pytest.raises(
        CheckpointError, match=rf"(?s)'x': what its function returned cannot be stored: .*{told}"
    ):
        await attempts.checkpoint("x", fn)
    assert attempts.shelf.values == {}


async def test_a_value_that_does_not_fit_its_key_is_refused(attempts: Attempts) -> None:
    with pytest.raises(CheckpointError, match="cannot be stored: n does not fit Key"):
        await attempts.checkpoint(Key("n", int), lambda: "five")
    attempts.shelf.values["n"] = '"five"'
    attempts.begin()
    with pytest.raises(CheckpointError, match="'n': what an earlier attempt stored cannot be used"):
        await attempts.checkpoint(Key("n", int), lambda: 5)


@pytest.mark.parametrize("name", ["", "x" * 201, "a\0b", "\ud800", "two\nlines", None, 5, b"x"])
async def test_a_bad_name_is_refused(attempts: Attempts, name: Any) -> None:
    with pytest.raises(CheckpointError, match="must be printable text of 1 to 200 characters"):
        await attempts.checkpoint(name, lambda: 1)


@pytest.mark.parametrize("fn", [None, 5, "fetch"])
async def test_what_cannot_be_called_is_refused(attempts: Attempts, fn: Any) -> None:
    with pytest.raises(CheckpointError, match="cannot be called: hand over the function itself"):
        await attempts.checkpoint("x", fn)


async def test_a_coroutine_is_refused_and_closed(attempts: Attempts) -> None:
    async def fetch() -> None: ...

    with pytest.raises(CheckpointError, match="hand over the function itself, with functools.partial"):
        await attempts.checkpoint("x", fetch())


def test_a_thread_needs_no_loop() -> None:
    attempts = Attempts("def")
    assert attempts.ctx.checkpoint("x", lambda: 7) == 7
    assert attempts.shelf.values == {"x": "7"}


async def test_what_would_be_suspended_cannot_be_run_to_its_end() -> None:
    with pytest.raises(RuntimeError, match="suspended"):
        to_end(asyncio.sleep(0))
