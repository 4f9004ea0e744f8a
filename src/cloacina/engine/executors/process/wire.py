"""The wire between a runner and its child processes: messages, and frames of them on a socket.

A frame is the length of its message, four bytes with the highest first, and the message as JSON. The runner
sends a `Hello` first, then an `Order` for each attempt. The child answers `Begun`, and `Done` or `Failed`; in
between it may `Ask`, and waits for the `Reply`. Values of contexts travel as JSON text inside the messages,
and what the runner gets is checked like what it reads from its database: nothing here turns data into code.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from typing import TypeAlias

import msgspec

from cloacina.engine.executors.process.place import MainModule, Place
from cloacina.model.result import ErrorInfo

_LENGTH = struct.Struct("!I")
_CHUNK = 1 << 18
NULL = b"null"


class Message(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """What travels on the wire."""


class Judge(msgspec.Struct, frozen=True, array_like=True):
    """What a policy's ``retry_on`` says: a word, types, or a predicate."""

    word: str | None = None
    types: tuple[Place, ...] = ()
    predicate: Place | None = None


class Hello(Message, frozen=True):
    """What a child must know before it runs anything."""

    argv: list[bytes]
    main: MainModule | None
    value_bytes: int
    context_bytes: int
    log_level: int | None


class Order(Message, frozen=True):
    """Run the body at ``body`` on this view; ``input`` is null where the view is the execution's input."""

    execution: str
    workflow: str
    task: str
    attempt: int
    body: Place
    judge: Judge
    view: msgspec.Raw
    input: msgspec.Raw


class Reply(Message, frozen=True):
    """The answer to an `Ask`: a value, or why there is none, and whether asking again is useless."""

    value: dict[str, str] | None = None
    refusal: str | None = None
    permanent: bool = False


class Begun(Message, frozen=True):
    """The body was found and starts now."""


class Done(Message, frozen=True):
    """The body ended well; ``patch`` is what it changed."""

    patch: msgspec.Raw


class Failed(Message, frozen=True):
    """The body failed; ``worth_another`` says whether the policy would try again."""

    error: ErrorInfo
    worth_another: bool


class Ask(Message, frozen=True):
    """The body wants its checkpoints, or, with a name, stores one."""

    name: str | None = None
    value: str | None = None


ToChild: TypeAlias = Hello | Order | Reply
FromChild: TypeAlias = Begun | Done | Failed | Ask

_encode = msgspec.json.Encoder().encode
read_in_child = msgspec.json.Decoder[ToChild](ToChild).decode
read_from_child = msgspec.json.Decoder[FromChild](FromChild).decode


def frame(message: Message) -> bytes:
    """A message as it is sent."""
    text = _encode(message)
    return _LENGTH.pack(len(text)) + text


class Frames:
    """Cuts what arrives into messages. Raises `ValueError` for one of more than ``most`` bytes."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The messages that are complete with ``data``."""
        buffer = self._buffer
        buffer += data
        start = 0
        while len(buffer) - start >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(buffer, start)
            if length > self._most:
                raise ValueError(f"a message of {length} bytes")
            end = start + _LENGTH.size + length
            if len(buffer) < end:
                break
            yield bytes(memoryview(buffer)[start + _LENGTH.size : end])
            start = end
        del buffer[:start]


class Link:
    """The child's end of the wire; it blocks."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end

    def send(self, message: Message) -> None:
        """Send a message. Raises `OSError` if nobody is there any more."""
        self._end.sendall(frame(message))

    def receive(self) -> ToChild | None:
        """Wait for the next message; None at the end."""
        head = self._read(_LENGTH.size)
        if head is None:
            return None
        text = self._read(_LENGTH.unpack(head)[0])
        return None if text is None else read_in_child(text)

    def _read(self, size: int) -> bytearray | None:
        data = bytearray(size)
        rest = memoryview(data)
        while rest:
            got = self._end.recv_into(rest[:_CHUNK])
            if not got:
                return None
            rest = rest[got:]
        return data
