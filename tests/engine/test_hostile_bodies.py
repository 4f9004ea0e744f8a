"""Bodies that raise what no body should: the engine lives on, and what it stores is clean, short and readable."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloacina.engine.executors.attempt import ERROR_BYTES, clean, describe
from cloacina.model.context.context import Context
from cloacina.model.status import ExecutionStatus
from cloacina.model.task import task
from cloacina.model.workflow import Workflow
from cloacina.runner import Runner
from support.runners import in_memory

FAILED, COMPLETED = ExecutionStatus.FAILED, ExecutionStatus.COMPLETED


class Custom(BaseException):
    pass


class MuteStr(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class MuteRepr(Exception):
    def __repr__(self) -> str:
        raise RuntimeError("no repr")


class ExitingStr(Exception):
    def __str__(self) -> str:
        raise SystemExit(1)


class Trap(str):
    def __getitem__(self, key: Any) -> str:
        raise RuntimeError("a trap")

    def replace(self, *args: Any) -> str:
        raise RuntimeError("a trap")

    def encode(self, *args: Any) -> bytes:
        raise RuntimeError("a trap")

    def __len__(self) -> int:
        return -1 if False else 10**9


class TrapStr(Exception):
    def __str__(self) -> str:
        return Trap("caught")


class NoText(Exception):
    def __str__(self) -> str:
        return 7  # type: ignore[return-value]


class Meta(type):
    def __getattribute__(cls, name: str) -> Any:
        if name in ("__module__", "__qualname__", "__name__"):
            raise RuntimeError("a class without a name")
        return super().__getattribute__(name)


class Nameless(Exception, metaclass=Meta):
    pass


def cyclic() -> Exception:
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    return first


def long_chain() -> Exception:
    error = ValueError("0")
    for n in range(1, 2000):
        after = ValueError(str(n))
        after.__cause__ = error
        error = after
    return error


def deep_group() -> Exception:
    error: Exception = ValueError("leaf")
    for _ in range(500):
        error = ExceptionGroup("group", [error])
    return error


def noted() -> Exception:
    error = ValueError("noted")
    error.__notes__ = [7, MuteRepr(), "\ud800"]  # type: ignore[list-item]
    return error


MAKERS: dict[str, Callable[[], BaseException]] = {
    "SystemExit": lambda: SystemExit(3),
    "SystemExit without code": SystemExit,
    "KeyboardInterrupt": KeyboardInterrupt,
    "CancelledError": lambda: asyncio.CancelledError("mine"),
    "GeneratorExit": GeneratorExit,
    "BaseException": lambda: BaseException("base"),
    "custom BaseException": lambda: Custom("custom"),
    "StopIteration": lambda: StopIteration(7),
    "StopAsyncIteration": StopAsyncIteration,
    "MemoryError": MemoryError,
    "RecursionError": RecursionError,
    "str raises": MuteStr,
    "str exits": ExitingStr,
    "str is a trap": TrapStr,
    "str is no text": NoText,
    "repr raises": MuteRepr,
    "a class without a name": Nameless,
    "10 MB message": lambda: ValueError("x" * 10_000_000),
    "10 MB of four bytes each": lambda: ValueError("🦀" * 2_500_000),
    "cyclic cause": cyclic,
    "long chain of causes": long_chain,
    "deep group": deep_group,
    "strange notes": noted,
    "NUL": lambda: ValueError("a\0b"),
    "surrogates": lambda: ValueError("a\ud800b\udfff"),
    "bytes": lambda: ValueError(b"\xff\xfe"),
    "control characters": lambda: ValueError("a\x1b[2J\r\nb\x07"),
    "no arguments": ValueError,
    "UnicodeDecodeError": lambda: UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
}


async def alive(runner: Runner) -> None:
    async def fine(ctx: Context) -> None: ...

    assert (await runner.execute(Workflow("fine", [task(fine)]), timeout=20)).status is COMPLETED


@pytest.mark.parametrize("kind", ["async", "def"])
@pytest.mark.parametrize("name", MAKERS)
async def test_whatever_a_body_raises_fails_the_task_and_nothing_else(name: str, kind: str) -> None:
    def body(ctx: Context) -> None:
        raise MAKERS[name]()

    async def async_body(ctx: Context) -> None:
        raise MAKERS[name]()

    workflow = Workflow("raises", [task(body if kind == "def" else async_body, id="it", retry=False)])
    async with in_memory() as runner:
        result = await runner.execute(workflow, timeout=20)
        assert await runner.get(result.id) == result
        (info,) = await runner.list()
        await alive(runner)
    error = result.tasks["it"].error
    assert result.status is FAILED
    assert error is not None
    assert info.error is not None and info.error.startswith("it: ")
    for text in (error.type, error.message, error.traceback, info.error):
        data = text.encode()
        assert len(data) <= ERROR_BYTES
        assert "\0" not in text


@pytest.mark.parametrize(
    "name", ["SystemExit", "KeyboardInterrupt", "CancelledError", "GeneratorExit", "custom BaseException"]
)
async def test_what_is_no_exception_is_not_retried(name: str) -> None:
    calls = list[int]()

    async def body(ctx: Context) -> None:
        calls.append(1)
        raise MAKERS[name]()

    async with in_memory() as runner:
        assert (
            await runner.execute(Workflow("raises", [task(body, id="it", retry=5)]), timeout=20)
        ).status is FAILED
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("SystemExit", "SystemExit: 3"),
        ("custom BaseException", f"{__name__}.Custom: custom"),
        ("str raises", f"{__name__}.MuteStr: <the error's text cannot be made: RuntimeError>"),
        ("NUL", "ValueError: a\\0b"),
        ("surrogates", "ValueError: a\\ud800b\\udfff"),
        ("no arguments", "ValueError"),
    ],
)
async def test_what_is_told_of_it(name: str, told: str) -> None:
    assert str(describe(MAKERS[name]())) == told


class Hostile:
    """What a body may leave in its context, though it cannot be stored."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def __eq__(self, other: object) -> bool:
        raise self._error

    def __repr__(self) -> str:
        raise self._error

    __hash__ = None  # type: ignore[assignment]


class HostileDict(dict[str, Any]):
    def items(self) -> Any:
        raise RecursionError("as deep as it gets")

    keys = __iter__ = __len__ = items


def shrinking() -> Any:
    return HostileDict(a=1)


LEFT: dict[str, Callable[[], Any]] = {
    "an object": object,
    "an object that raises": lambda: Hostile(ValueError("hostile")),
    "an object that exits": lambda: Hostile(SystemExit(1)),
    "a mapping that raises": shrinking,
    "a set": lambda: {1, 2},
    "a function": lambda: print,
    "NaN": lambda: float("nan"),
    "a lone surrogate": lambda: "\ud800",
    "keys that are no text": lambda: {1: 2},
}


@pytest.mark.parametrize("kind", ["async", "def"])
@pytest.mark.parametrize("how", ["append", "replace"])
@pytest.mark.parametrize("name", LEFT)
async def test_what_cannot_be_stored_fails_the_attempt(name: str, how: str, kind: str) -> None:
    def body(ctx: Context) -> None:
        ctx["list"][1 if how == "append" else 0 :] = [LEFT[name]()]

    async def async_body(ctx: Context) -> None:
        body(ctx)

    workflow = Workflow("leaves", [task(body if kind == "def" else async_body, id="it", retry=False)])
    async with in_memory() as runner:
        result = await runner.execute(workflow, {"list": [0]}, timeout=20)
        await alive(runner)
    assert (result.status, result.context.to_dict()) == (FAILED, {"list": [0]})
    assert result.tasks["it"].error is not None


async def test_a_cycle_in_the_context_fails_the_attempt_with_its_path() -> None:
    async def body(ctx: Context) -> None:
        ctx["list"].append(ctx["list"])

    async with in_memory() as runner:
        result = await runner.execute(
            Workflow("cycle", [task(body, id="it", retry=False)]), {"list": []}, timeout=20
        )
    assert "cannot store list[0]: contains itself" in str(result.tasks["it"].error)


async def test_a_body_that_goes_on_using_its_context_changes_nothing() -> None:
    kept = list[Context]()

    async def body(ctx: Context) -> None:
        ctx["a"] = 1
        kept.append(ctx)

    async with in_memory() as runner:
        handle = await runner.submit(Workflow("kept", [task(body, id="it")]))
        result = await handle.result()
        kept[0]["a"] = 2
        assert (await runner.get(handle.id)).context == result.context == {"a": 1}


@given(st.text(alphabet=st.characters(), max_size=200), st.integers(4, 300))
def test_cleaned_text_is_storable_short_and_keeps_its_beginning(text: str, limit: int) -> None:
    found = clean(text, limit)
    assert len(found.encode()) <= limit
    assert "\0" not in found
    plain = text.encode("utf-8", "surrogatepass")
    if len(plain) <= limit and "\0" not in text and not any("\ud800" <= sign <= "\udfff" for sign in text):
        assert found == text
