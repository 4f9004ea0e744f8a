"""A task's body: what may be one, and how it wants to be called."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from inspect import Parameter
from typing import Any, cast, get_args

from cloacina.errors import WorkflowError
from cloacina.model.definition.fingerprint import plain_function
from cloacina.model.definition.hints import listing, shown
from cloacina.model.definition.returns import refused_return
from cloacina.transaction import BlockingTransaction, Transaction

HANDLE_TYPE, HANDLE_NAME = "TaskHandle", "handle"
TRANSACTION_NAME = "tx"


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
    handle = _handle(parameters[1:])
    transaction = _transaction(parameters, is_async, getattr(plain, "__globals__", {}))
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
    if _is_handle(first):
        raise WorkflowError(f"its first parameter {first.name!r} is a TaskHandle: the context comes first")
    owner = getattr(fn, "__qualname__", "").rpartition(".")[0]
    if first.name in ("self", "cls") and inspect.isfunction(fn) and owner and not owner.endswith("<locals>"):
        raise WorkflowError(
            f"it is a method without its object: make an object of {owner.rpartition('.')[2]} and hand over "
            f"its method, workflow.task(object.{fn.__name__})"
        )


def _handle(others: list[Parameter]) -> Parameter | None:
    """The parameter that is annotated as a `TaskHandle`, else the one with that name."""
    named = [other for other in others if other.name == HANDLE_NAME and other.kind not in _VARIADIC]
    return _only([other for other in others if _is_handle(other)] or named, HANDLE_TYPE)


def _transaction(
    parameters: list[Parameter], is_async: bool, scope: Mapping[str, object]
) -> Parameter | None:
    """The parameter that is annotated as the body's kind of transaction, else one with that name and no default."""
    wanted, other = (Transaction, BlockingTransaction) if is_async else (BlockingTransaction, Transaction)
    context, *others = parameters
    if _is(wanted, context, scope) or _is(other, context, scope):
        raise WorkflowError(f"its first parameter {context.name!r} is a transaction: the context comes first")
    wrong = next((one for one in others if _is(other, one, scope)), None)
    if wrong is not None:
        raise WorkflowError(
            f"its parameter {wrong.name!r} is a {other.__name__}: an async def body takes a Transaction, a def body a "
            "BlockingTransaction"
        )
    named = [one for one in others if one.name == TRANSACTION_NAME and one.default is Parameter.empty]
    named = [one for one in named if one.kind not in _VARIADIC]
    return _only([one for one in others if _is(wanted, one, scope)] or named, wanted.__name__)


def _only(found: list[Parameter], kind: str) -> Parameter | None:
    if len(found) > 1:
        raise WorkflowError(f"{listing([p.name for p in found])} are all a {kind}: it is given only one")
    if found and found[0].kind is Parameter.POSITIONAL_ONLY:
        raise WorkflowError(
            f"its {kind} {found[0].name!r} is positional-only: take the / out of its parameters"
        )
    return found[0] if found else None


_VARIADIC = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)


def _is_handle(parameter: Parameter) -> bool:
    annotation = parameter.annotation
    if isinstance(annotation, str):
        return HANDLE_TYPE in re.findall(r"\w+", annotation)
    parts: tuple[object, ...] = (annotation, *get_args(annotation))
    return any(getattr(part, "__name__", "") == HANDLE_TYPE for part in parts)


def _is(kind: type, parameter: Parameter, scope: Mapping[str, object]) -> bool:
    """True if the annotation names ``kind``; ``scope`` tells it from classes of others with that name."""
    annotation = parameter.annotation
    if not isinstance(annotation, str):
        return any(part is kind for part in (annotation, *get_args(annotation)))
    for name in re.findall(r"[\w.]+", annotation):
        first, *rest = name.split(".")
        if (rest or [first])[-1] == kind.__name__:
            known: object = scope.get(first)
            for part in rest:
                known = getattr(known, part, None)
            return known is None or known is kind
    return False


def _check_rest(others: list[Parameter]) -> None:
    needed = [p.name for p in others if p.default is Parameter.empty and p.kind not in _VARIADIC]
    if needed:
        raise WorkflowError(
            f"it needs {listing(needed)} besides the context: give a default, bind it with "
            "functools.partial, or read it from the context"
        )
