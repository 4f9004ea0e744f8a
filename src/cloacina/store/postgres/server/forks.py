"""Forks: a child of this process shares its sockets with it, and must let go of them without a word to the server."""

from __future__ import annotations

import os
import weakref
from contextlib import suppress
from typing import Any, cast

import asyncpg

_open: weakref.WeakSet[asyncpg.Connection] = weakref.WeakSet()


def left_to_parent(raw: asyncpg.Connection) -> asyncpg.Connection:
    """Have forked children let go of the connection ``raw``, which is returned.

    Otherwise a child would keep the session of a parent that was killed, and with it the locks; and closing its copy
    would take the socket out of the parent's event loop.
    """
    _open.add(raw)
    return raw


def _let_go() -> None:
    """In the child: put nothing in the place of each socket, so that its number stays taken until it is closed."""
    nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for raw in list(_open):
        socket = cast(Any, raw)._transport.get_extra_info("socket")
        with suppress(OSError):
            if socket is not None and socket.fileno() >= 0:
                os.dup2(nothing, socket.fileno(), inheritable=False)
    os.close(nothing)


os.register_at_fork(after_in_child=_let_go)
