"""Logs: which attempt a record belongs to, and lines that nobody can forge."""

from __future__ import annotations

import asyncio
import io
import logging
from collections.abc import Iterator

import pytest

from cloacina.model.context.context import Context
from cloacina.model.task import task
from cloacina.model.workflow import Workflow
from cloacina.observe.logs import FIELDS, AttemptFilter, get_logger, init_logging, level_of_ours
from support.runners import in_memory

mine = logging.getLogger("an.application")


@pytest.fixture
def out() -> Iterator[io.StringIO]:
    """Logging set up on a text in memory, and put back as it was."""
    root, text = logging.getLogger(), io.StringIO()
    handlers, level = list(root.handlers), root.level
    init_logging("DEBUG", text)
    yield text
    root.handlers[:] = handlers
    root.setLevel(level)


def record(logger: logging.Logger, caplog: pytest.LogCaptureFixture) -> logging.LogRecord:
    caplog.set_level(logging.INFO)
    logger.info("hello")
    return caplog.records[-1]


def test_outside_of_attempts_the_fields_are_dashes(caplog: pytest.LogCaptureFixture) -> None:
    found = record(get_logger("x"), caplog)
    assert found.name == "cloacina.x"
    assert {name: getattr(found, name) for name in FIELDS} == dict.fromkeys(FIELDS, "-")


def test_what_a_record_says_of_itself_is_kept() -> None:
    found = logging.makeLogRecord({"execution": "mine", "msg": "x"})
    assert AttemptFilter().filter(found) is True
    assert (found.execution, found.task) == ("mine", "-")  # type: ignore[attr-defined]


def test_asking_twice_for_a_logger_adds_one_filter() -> None:
    assert get_logger("twice") is get_logger("twice")
    assert len(get_logger("twice").filters) == 1


@pytest.mark.parametrize("kind", ["async", "def"])
async def test_a_body_logs_under_its_attempt(kind: str, out: io.StringIO) -> None:
    def say(ctx: Context) -> None:
        mine.info("from %s", ctx["name"])
        get_logger("inside").warning("from the engine's tree")

    async def async_say(ctx: Context) -> None:
        await asyncio.sleep(0)
        say(ctx)
        await asyncio.create_task(in_a_task(ctx))

    async def in_a_task(ctx: Context) -> None:
        mine.info("from a task of %s", ctx["name"])

    workflow = Workflow("told", [task(async_say if kind == "async" else say, id="speak")])
    async with in_memory() as runner:
        handles = [await runner.submit(workflow, {"name": n}) for n in range(3)]
        results = [await handle.result() for handle in handles]
    lines = [line for line in out.getvalue().splitlines() if " from " in line]
    for n, result in enumerate(results):
        said = [line for line in lines if f"[told/speak#1 {result.id}]" in line]
        assert any(line.endswith(f"INFO an.application [told/speak#1 {result.id}] from {n}") for line in said)
        assert any("WARNING cloacina.inside" in line for line in said)
        assert len(said) == (3 if kind == "async" else 2)


async def test_nothing_of_an_attempt_stays_behind(out: io.StringIO) -> None:
    async def say(ctx: Context) -> None: ...

    async with in_memory() as runner:
        await runner.execute(Workflow("told", [task(say)]))
        mine.info("afterwards")
    assert "INFO an.application afterwards" in out.getvalue()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("one\ntwo", r"one\x0atwo"),
        ("one\r\ntwo", r"one\x0d\x0atwo"),
        ("a\x1b[2Jb", r"a\x1b[2Jb"),
        ("a\x9b2Jb", r"a\x9b2Jb"),
        ("a\x85b", r"a\x85b"),
        ("a\u2028b\u2029c", r"a\u2028b\u2029c"),
        ("a\x00b\x7fc", r"a\x00b\x7fc"),
        ("a\tb é 🦀", "a\tb é 🦀"),
    ],
)
def test_a_message_cannot_forge_a_line(text: str, shown: str, out: io.StringIO) -> None:
    mine.warning("%s", text)
    lines = out.getvalue().splitlines()
    assert len(lines) == 1
    assert lines[0].endswith(f" {mine.name} {shown}")


def test_an_error_keeps_its_traceback(out: io.StringIO) -> None:
    try:
        raise ValueError("told")
    except ValueError:
        mine.exception("it failed")
    assert "Traceback (most recent call last)" in out.getvalue()
    assert "ValueError: told" in out.getvalue()


def test_setting_it_up_again_replaces_it(out: io.StringIO) -> None:
    second = io.StringIO()
    handler = init_logging(logging.WARNING, second)
    mine.info("too quiet")
    mine.warning("once")
    assert (out.getvalue(), second.getvalue().count("once")) == ("", 1)
    assert "too quiet" not in second.getvalue()
    assert handler in logging.getLogger().handlers


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(ValueError, match="LOUD"):
        init_logging("LOUD")


def test_the_level_is_known_only_if_it_was_set_here(out: io.StringIO) -> None:
    assert level_of_ours() == logging.DEBUG
    handler = init_logging("ERROR", out)
    assert level_of_ours() == logging.ERROR
    logging.getLogger().removeHandler(handler)
    assert level_of_ours() is None
