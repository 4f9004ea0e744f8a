"""The wire: as much of PostgreSQL's protocol as the proxy needs to know what a client asks, and when it is answered."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

_LENGTH = struct.Struct("!i")
_SSL, _GSS = 80877103, 80877104


@dataclass(frozen=True)
class Message:
    """One message of a client: its bytes, and what they mean to the proxy."""

    raw: bytes
    executes: bytes = b""
    """The text of the statement that it runs, and the bytes of its parameters."""
    readies: int = 0
    """How many times the server will say that it is ready because of it."""
    byte: bool = False
    """The server answers with one bare byte: whether it encrypts."""


class Requests:
    """The messages in what one client sends.

    A prepared statement's text travels once, when it is parsed, and is remembered: to bind parameters to it counts as
    running that text.
    """

    def __init__(self) -> None:
        self._left = b""
        self._started = False
        self._texts: dict[bytes, bytes] = {}

    def feed(self, data: bytes) -> Iterator[Message]:
        """The messages that are whole with ``data``."""
        self._left += data
        while (raw := self._next()) is not None:
            yield self._read(raw)

    def _next(self) -> bytes | None:
        tag = 1 if self._started else 0  # the first messages have no letter
        if len(self._left) < tag + 4:
            return None
        (length,) = _LENGTH.unpack_from(self._left, tag)
        if len(self._left) < tag + length:
            return None
        raw, self._left = self._left[: tag + length], self._left[tag + length :]
        return raw

    def _read(self, raw: bytes) -> Message:
        if not self._started:
            if _LENGTH.unpack_from(raw, 4)[0] in (_SSL, _GSS):
                return Message(raw, byte=True)
            self._started = True
            return Message(raw, readies=1)
        kind, body = raw[:1], raw[5:]
        if kind == b"P":
            name, text, _ = body.split(b"\0", 2)
            self._texts[name] = text
        elif kind == b"B":
            _, name, values = body.split(b"\0", 2)
            return Message(raw, executes=self._texts.get(name, b"") + b"\0" + values)
        elif kind == b"Q":
            return Message(raw, executes=body, readies=1)
        return Message(raw, readies=int(kind in (b"S", b"F")))


class Answers:
    """How many times the server has said that it is ready, in what it sends to one client."""

    def __init__(self) -> None:
        self.readies = 0
        self.bytes_expected = 0
        """Bare bytes that come before the next message."""
        self._left = b""

    def feed(self, data: bytes) -> None:
        """Count in ``data``."""
        bare = min(self.bytes_expected, len(data))
        self.bytes_expected -= bare
        self._left += data[bare:]
        while len(self._left) >= 5:
            (length,) = _LENGTH.unpack_from(self._left, 1)
            if len(self._left) < 1 + length:
                return
            self.readies += self._left[:1] == b"Z"
            self._left = self._left[1 + length :]
