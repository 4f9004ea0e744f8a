"""A variable: a named piece of configuration, such as the address of a database, read from the environment.

``var("WAREHOUSE")`` reads ``CLOACINA_VAR_WAREHOUSE``. Its value may be built from others::

    CLOACINA_VAR_HOST=db.example.org
    CLOACINA_VAR_WAREHOUSE=postgresql://{{ HOST }}/sales

Values may be secret: no error shows one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import TypeVar

from cloacina.errors import VariableError

D = TypeVar("D")

PREFIX = "CLOACINA_VAR_"
LONGEST = 1_000_000
"""Characters that a value may have; templates that double each other grow fast."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_TEMPLATE = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)


def var(name: str) -> str:
    """Return the variable ``name``: the text of ``CLOACINA_VAR_<name>``, with each ``{{ OTHER }}`` filled in.

    Raises `VariableError` if it or another that it names is not set, or if they name each other in a cycle.
    """
    return _resolved(_checked(name), (), {})


def var_or(name: str, default: D) -> str | D:
    """Return the variable ``name`` as `var` does, or ``default``, as it is, if it is not set.

    Raises `VariableError` if it is set and its templates cannot be filled in.
    """
    return var(name) if PREFIX + _checked(name) in os.environ else default


def _resolved(name: str, asked_by: tuple[str, ...], known: dict[str, str]) -> str:
    """The value of one variable; ``asked_by`` are those whose templates led to it, ``known`` what was resolved."""
    if name in known:
        return known[name]
    if name in asked_by:
        cycle = " → ".join((*asked_by[asked_by.index(name) :], name))
        raise VariableError(
            f"variables name each other in a cycle, {cycle}: take one of the templates out of the environment"
        )
    text = os.environ.get(PREFIX + name)
    if text is None:
        raise VariableError(_missing(name, asked_by))
    parts: list[str] = []
    end = 0
    for found in _TEMPLATE.finditer(text):
        inner = found[1].strip()
        if not _NAME.fullmatch(inner):
            raise VariableError(
                f"variable {name!r}: the template that begins at character {found.start() + 1} of {PREFIX}{name} holds "
                "no name of a variable: write {{ NAME }}"
            )
        parts += text[end : found.start()], _resolved(inner, (*asked_by, name), known)
        end = found.end()
    parts.append(text[end:])
    if sum(map(len, parts)) > LONGEST:
        raise VariableError(
            f"variable {name!r} has over {LONGEST:,} characters once its templates are filled in: shorten them"
        )
    known[name] = "".join(parts)
    return known[name]


def _checked(name: object) -> str:
    if isinstance(name, str) and _NAME.fullmatch(name):
        return name
    raise VariableError(
        f"{name!r:.80} is no name of a variable: write letters, digits and _, and no digit first, as in var('DB_URL')"
    )


def _missing(name: str, asked_by: Iterable[str]) -> str:
    way = " → ".join(asked_by)
    needed = f", which {way} needs," if way else ""
    known = [other.removeprefix(PREFIX) for other in os.environ if other.startswith(PREFIX)]
    close = get_close_matches(name.removeprefix(PREFIX), known, n=3)
    hint = f". Did you mean {' or '.join(map(repr, close))}?" if close else ""
    return f"variable {name!r}{needed} is not set: set {PREFIX}{name} in the environment{hint}"
