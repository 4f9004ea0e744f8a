"""A task's body: what may be one, and how it wants to be called."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from inspect import Parameter
from typing import Any, cast, get_args

from cloacina.errors import WorkflowError
from cloacina.model.definition.fingerprint import plain_function
from cloacina.model.definition.hints import listing, shown
from cloacina.model.definition.returns import refused_return

HANDLE_TYPE, HANDLE_NAME = "TaskHandle", "handle"
TRANSACTION_TYPES, TRANSACTION_NAME = {True: "Transaction", False: "BlockingTransaction"}, "tx"
"""By whether the body is ``async def``."""


@dataclass(frozen=True, slots=True)
class Body:
    """How a body is called: awaited or in a thread, and which parameters take its handle and transaction, if any."""

    is_async: bool
    handle_parameter: str | None
    transaction_parameter: str | None


def body_name(fn: object) -> str | None:
    """The name that a body has by itself; None if it has none, as an object that is merely callable."""
    while isinstance(fn, functools.partial):
        fn = cast("functools.partial[object]", fn).func
    name = getattr(fn, "__name__", None)
    return name if isinstance(name, str) else None


def read_body(fn: object) -> Body:
    """How to call ``fn`` as a body. Raises `WorkflowError` if it cannot be one."""
    if not callable(fn):
        call = "it was called already" if inspect.isawaitable(fn) else "it cannot be called"
        raise WorkflowError(f"{shown(fn)} is no body, {call}: hand over the function itself")
    if isinstance(fn, type):
        raise WorkflowError(
            f"class {fn.__name__} is no body: hand over a function, or an object of the class"
        )
    plain = plain_function(fn)
    if plain is not None and plain.__name__ == "<lambda>":
        raise WorkflowError(
            "a lambda is no body: write a function with def, so that it has a name and a text"
        )
    if inspect.isgeneratorfunction(plain) or inspect.isasyncgenfunction(plain):
        raise WorkflowError("a generator is no body: put the results into the context in place of yield")
    signature = _signature(fn)
    parameters = list(signature.parameters.values())
    _check_context(fn, parameters)
    is_async = inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(plain)
    handle = _given(parameters[1:], HANDLE_TYPE, HANDLE_NAME)
    transaction = _transaction(parameters[1:], is_async)
    _check_rest([other for other in parameters[1:] if other is not handle and other is not transaction])
    refused = refused_return(signature.return_annotation, inspect.unwrap(plain) if plain else None)
    if refused:
        raise WorkflowError(
            f"it is annotated to return {refused}: a body returns None, or the context it was given; put "
            "results into the context and write -> None"
        )
    return Body(is_async, handle.name if handle else None, transaction.name if transaction else None)


def _signature(fn: Callable[..., Any]) -> inspect.Signature:
    try:
        return inspect.signature(fn)
    except (TypeError, ValueError) as unseen:
        raise WorkflowError(
            f"the parameters of {shown(fn)} cannot be seen: wrap it into a function def body(ctx): ..."
        ) from unseen


def _check_context(fn: Callable[..., Any], parameters: list[Parameter]) -> None:
    first = parameters[0] if parameters else None
    if first is None or first.kind in (Parameter.KEYWORD_ONLY, Parameter.VAR_KEYWORD):
        raise WorkflowError("it takes no context: give it a first positional parameter, def body(ctx): ...")
    for kind in (HANDLE_TYPE, *TRANSACTION_TYPES.values()):
        if _is_a(kind, first):
            raise WorkflowError(f"its first parameter {first.name!r} is a {kind}: the context comes first")
    owner = getattr(fn, "__qualname__", "").rpartition(".")[0]
    if first.name in ("self", "cls") and inspect.isfunction(fn) and owner and not owner.endswith("<locals>"):
        raise WorkflowError(
            f"it is a method without its object: make an object of {owner.rpartition('.')[2]} and hand over "
            f"its method, workflow.task(object.{fn.__name__})"
        )


def _transaction(others: list[Parameter], is_async: bool) -> Parameter | None:
    """The parameter that takes the transaction of the body: the name alone asks for one only if it has no default."""
    wanted, other = TRANSACTION_TYPES[is_async], TRANSACTION_TYPES[not is_async]
    wrong = next((parameter for parameter in others if _is_a(other, parameter)), None)
    if wrong is not None:
        kind = "async def" if is_async else "def"
        raise WorkflowError(f"its parameter {wrong.name!r} is a {other}: a {kind} body takes a {wanted}")
    free = [
        p for p in others if p.name != TRANSACTION_NAME or p.default is Parameter.empty or _is_a(wanted, p)
    ]
    return _given(free, wanted, TRANSACTION_NAME)


def _given(others: list[Parameter], kind: str, name: str) -> Parameter | None:
    """The parameter that is annotated as a ``kind``, else the one with that name."""
    named = [other for other in others if other.name == name and other.kind not in _VARIADIC]
    found = [other for other in others if _is_a(kind, other)] or named
    if len(found) > 1:
        raise WorkflowError(f"{listing([p.name for p in found])} are all a {kind}: it is given only one")
    if found and found[0].kind is Parameter.POSITIONAL_ONLY:
        raise WorkflowError(
            f"its {kind} {found[0].name!r} is positional-only: take the / out of its parameters"
        )
    return found[0] if found else None


_VARIADIC = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)


def _is_a(kind: str, parameter: Parameter) -> bool:
    annotation = parameter.annotation
    if isinstance(annotation, str):
        return kind in re.findall(r"\w+", annotation)
    parts: tuple[object, ...] = (annotation, *get_args(annotation))
    return any(getattr(part, "__name__", "") == kind for part in parts)


def _check_rest(others: list[Parameter]) -> None:
    needed = [p.name for p in others if p.default is Parameter.empty and p.kind not in _VARIADIC]
    if needed:
        raise WorkflowError(
            f"it needs {listing(needed)} besides the context: give a default, bind it with "
            "functools.partial, or read it from the context"
        )
