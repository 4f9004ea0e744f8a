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


@dataclass(frozen=True, slots=True)
class Body:
    """How a body is called: awaited or in a thread, and the parameter that takes its `TaskHandle`, if any."""

    is_async: bool
    handle_parameter: str | None


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
    handle = _handle(parameters[1:])
    _check_rest([parameter for parameter in parameters[1:] if parameter is not handle])
    refused = refused_return(signature.return_annotation, inspect.unwrap(plain) if plain else None)
    if refused:
        raise WorkflowError(
            f"it is annotated to return {refused}: a body returns None, or the context it was given; put "
            "results into the context and write -> None"
        )
    is_async = inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(plain)
    return Body(is_async, handle.name if handle else None)


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
    found = [other for other in others if _is_handle(other)] or named
    if len(found) > 1:
        raise WorkflowError(f"{listing([p.name for p in found])} are all a TaskHandle: it is given only one")
    if found and found[0].kind is Parameter.POSITIONAL_ONLY:
        raise WorkflowError(
            f"its handle {found[0].name!r} is positional-only: take the / out of its parameters"
        )
    return found[0] if found else None


_VARIADIC = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)


def _is_handle(parameter: Parameter) -> bool:
    annotation = parameter.annotation
    if isinstance(annotation, str):
        return HANDLE_TYPE in re.findall(r"\w+", annotation)
    parts: tuple[object, ...] = (annotation, *get_args(annotation))
    return any(getattr(part, "__name__", "") == HANDLE_TYPE for part in parts)


def _check_rest(others: list[Parameter]) -> None:
    needed = [p.name for p in others if p.default is Parameter.empty and p.kind not in _VARIADIC]
    if needed:
        raise WorkflowError(
            f"it needs {listing(needed)} besides the context: give a default, bind it with "
            "functools.partial, or read it from the context"
        )
