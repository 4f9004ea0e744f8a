"""The operators with which a rule tests a context value, and the operands that they take."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from cloacina.errors import ContextError, WorkflowError
from cloacina.model.definition.hints import shown
from cloacina.model.json.values import to_json

MISSING = object()
"""Stands for an operand that was not given, where None is one."""


class ValueOperator(StrEnum):
    """How a `ContextValue` compares. ``greater_than``, ``>`` and the like are understood as well."""

    EQUALS = "Equals"
    NOT_EQUALS = "NotEquals"
    GREATER_THAN = "GreaterThan"
    GREATER_OR_EQUAL = "GreaterOrEqual"
    LESS_THAN = "LessThan"
    LESS_OR_EQUAL = "LessOrEqual"
    CONTAINS = "Contains"
    NOT_CONTAINS = "NotContains"
    EXISTS = "Exists"
    NOT_EXISTS = "NotExists"

    @classmethod
    def _missing_(cls, value: object) -> ValueOperator | None:
        if not isinstance(value, str):
            return None
        name = _SYMBOLS.get(value, value.upper() if value.islower() else "")
        return cls[name] if name in cls.__members__ else None


_SYMBOLS = {
    "==": "EQUALS",
    "!=": "NOT_EQUALS",
    ">": "GREATER_THAN",
    ">=": "GREATER_OR_EQUAL",
    "<": "LESS_THAN",
    "<=": "LESS_OR_EQUAL",
}
WITHOUT_OPERAND = (ValueOperator.EXISTS, ValueOperator.NOT_EXISTS)


def read_operator(operator: str, where: str) -> ValueOperator:
    """The operator that a word or a symbol names. Raises `WorkflowError`, saying ``where``, for any other."""
    try:
        return ValueOperator(operator)
    except ValueError:
        known = f"{', '.join(ValueOperator)}, {', '.join(_SYMBOLS)}"
        raise WorkflowError(f"{where} has the operator {shown(operator)}: use one of {known}") from None


def operand_text(operator: ValueOperator, value: object, where: str) -> str:
    """The operand as canonical JSON. Raises `WorkflowError`, saying ``where``, for one that does not fit."""
    if operator in WITHOUT_OPERAND:
        if value is MISSING or value is None or value is True:
            return "null"
        raise WorkflowError(f"{where} compares with nothing: leave out the value {shown(value)}")
    if value is MISSING:
        raise WorkflowError(f"{where} has no value to compare with: give one, None for null")
    try:
        return msgspec.json.encode(to_json(value, "value"), order="deterministic").decode()
    except ContextError as error:
        raise WorkflowError(f"{where} has a value that is no JSON: {error}") from error
