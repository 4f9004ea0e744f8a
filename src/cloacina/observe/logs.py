"""Logging: one logger tree under ``cloacina``, and which attempt a record belongs to."""

from __future__ import annotations

import logging
from contextvars import ContextVar
from typing import Protocol, TextIO

from cloacina.errors import ValidationError

FIELDS = ("execution", "workflow", "task", "attempt")


class Running(Protocol):
    """What a log record says of the attempt that it was written in."""

    @property
    def execution(self) -> str: ...
    @property
    def workflow(self) -> str: ...
    @property
    def task(self) -> str: ...
    @property
    def attempt(self) -> int: ...


running: ContextVar[Running | None] = ContextVar("cloacina_running", default=None)
"""The attempt whose body runs in this context."""


def fields_of(attempt: Running) -> dict[str, object]:
    """The fields of a record about ``attempt`` that is not written inside it: ``extra=fields_of(attempt)``."""
    return {name: getattr(attempt, name) for name in FIELDS}


class AttemptFilter(logging.Filter):
    """Gives every record the fields execution, workflow, task and attempt; a dash where there is none."""

    def filter(self, record: logging.LogRecord) -> bool:
        current = running.get()
        for name in FIELDS:
            if not hasattr(record, name):
                setattr(record, name, "-" if current is None else getattr(current, name))
        return True


class _OneLine(logging.Formatter):
    """Text in which a message cannot forge a second line, with the attempt where the record has one."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = record.message.translate(_ESCAPES)
        workflow, task, attempt, execution = (
            getattr(record, name, "-") for name in ("workflow", "task", "attempt", "execution")
        )
        record.where = "" if execution == "-" else f" [{workflow}/{task}#{attempt} {execution}]"
        return super().formatMessage(record)


# Everything that ends a line somewhere or steers a terminal: control characters of both sets, line separators.
_STEERING = (*range(9), *range(10, 32), *range(127, 160), 0x2028, 0x2029)
_ESCAPES = {code: f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" for code in _STEERING}


def get_logger(name: str) -> logging.Logger:
    """The logger ``cloacina.<name>``; its own records carry the fields even without `init_logging`."""
    logger = logging.getLogger(f"cloacina.{name}")
    if not any(isinstance(known, AttemptFilter) for known in logger.filters):
        logger.addFilter(AttemptFilter())
    return logger


def level_of_ours() -> int | None:
    """The level that `init_logging` set; None if it was not called."""
    root = logging.getLogger()
    return root.level if any(getattr(known, "_cloacina", False) for known in root.handlers) else None


def init_logging(level: int | str = logging.INFO, stream: TextIO | None = None) -> logging.Handler:
    """Print records of all loggers, with the attempt they belong to; calling it again replaces the handler.

    ``level`` is a level of `logging` or its name; ``stream`` is standard error unless given. Returns the handler.
    Raises `ValidationError` for an unknown level.
    """
    known_levels = logging.getLevelNamesMapping()
    chosen = known_levels.get(level.upper()) if isinstance(level, str) else level
    if not isinstance(chosen, int):
        raise ValidationError(f"log level {level!r:.80} must be a number or one of {', '.join(known_levels)}")
    root = logging.getLogger()
    for handler in [known for known in root.handlers if getattr(known, "_cloacina", False)]:
        root.removeHandler(handler)
    handler = logging.StreamHandler(stream)
    handler.addFilter(AttemptFilter())
    handler.setFormatter(_OneLine("%(asctime)s %(levelname)s %(name)s%(where)s %(message)s"))
    handler._cloacina = True  # type: ignore[attr-defined]
    root.addHandler(handler)
    root.setLevel(chosen)
    return handler
