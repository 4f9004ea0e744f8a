"""A reader: turns the text of a JSON value into a Python type, and says where it does not fit.

For whatever msgspec can decode, pydantic models inside it included. pydantic is never imported here: a type can
only be one of its models if somebody imported it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, cast

import msgspec

from cloacina.model.json.values import JSON, encode


def reader(form: object) -> Callable[[str], Any]:
    """The function that reads JSON text as ``form``; it raises `msgspec.ValidationError`.

    Raises `TypeError` for a form that nothing can be read as, `NameError` if it names a type that is declared
    further down.
    """
    return msgspec.json.Decoder(cast(Any, form), dec_hook=_decode_model).decode


def misfit(error: msgspec.ValidationError, path: str = "") -> tuple[str, str]:
    """The path of what did not fit, below ``path``, and what is wrong with it."""
    detail, _, place = str(error).partition(" - at `$")
    return (path + place.rstrip("`")).removeprefix("."), f"{detail[:1].lower()}{detail[1:]}"


def _decode_model(form: type[Any], value: object) -> object:
    """msgspec calls this for types that it does not know: pydantic models, if anyone imported pydantic."""
    pydantic: Any = sys.modules.get("pydantic")
    if pydantic is None or not issubclass(form, pydantic.BaseModel):
        return value  # msgspec refuses it unless it is an instance
    try:
        return cast(Any, form).model_validate_json(encode(cast(JSON, value)))
    except pydantic.ValidationError as error:
        problems = (": ".join((*map(str, part["loc"]), part["msg"])) for part in error.errors())
        raise ValueError("; ".join(problems)) from error
