"""The wire: messages come out of any pieces as they went in, and nonsense is refused."""

from __future__ import annotations

import socket
import threading

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloacina.engine.executors.process.place import MainModule, Place
from cloacina.engine.executors.process.wire import (
    Ask,
    Begun,
    Done,
    Failed,
    Frames,
    FromChild,
    Hello,
    Judge,
    Link,
    Order,
    Reply,
    frame,
    read_from_child,
    read_in_child,
)
from cloacina.model.result import ErrorInfo

BODY = Place("module", "Class.body")
TO_CHILD = [
    Hello([b"argv", b"\xff"], MainModule(None, b"/\xff.py"), 1, 2, None),
    Hello([], None, 1, 2, 20),
    Order("e", "w", "t", 1, BODY, Judge("all"), msgspec.Raw(b'{"a":[1,null]}'), msgspec.Raw(b"null")),
    Order("e", "w", "t", 9, BODY, Judge(types=(BODY, BODY)), msgspec.Raw(b"{}"), msgspec.Raw(b'{"n":1}')),
    Order("e", "w", "t", 9, BODY, Judge(predicate=BODY), msgspec.Raw(b"{}"), msgspec.Raw(b"null")),
    Reply(),
    Reply({"name": "[1]"}),
    Reply(refusal="no", permanent=True),
]
FROM_CHILD: list[FromChild] = [
    Begun(),
    Done(msgspec.Raw(b'{"set":{"x":"\\u2028"}}')),
    Failed(ErrorInfo("a.B", "text", "trace"), True),
    Ask(),
    Ask("name", "[1]"),
]


@given(st.lists(st.sampled_from(FROM_CHILD), max_size=6), st.data())
def test_messages_come_out_of_any_pieces(messages: list[FromChild], data: st.DataObject) -> None:
    stream = b"".join(map(frame, messages))
    frames, found, at = Frames(10_000), [], 0
    while at < len(stream):
        size = data.draw(st.integers(1, len(stream) - at))
        found += [read_from_child(text) for text in frames.feed(stream[at : at + size])]
        at += size
    assert found == messages


@pytest.mark.parametrize("message", TO_CHILD, ids=lambda message: type(message).__name__)
def test_what_the_runner_says_arrives(message: Hello | Order | Reply) -> None:
    assert read_in_child(frame(message)[4:]) == message


@pytest.mark.parametrize(
    "garbage", [b"", b"{}", b"[]", b'["Nope"]', b'["Done"]', b'["Failed",1,2]', b"\xff", b'["Hello"]']
)
def test_what_is_no_message_is_refused(garbage: bytes) -> None:
    with pytest.raises(ValueError):
        read_from_child(garbage)


def test_a_message_that_is_too_large_is_refused_before_it_has_come() -> None:
    frames = Frames(10)
    assert list(frames.feed(b"\0\0\0\x0a")) == []
    with pytest.raises(ValueError):
        list(Frames(10).feed(b"\0\0\0\x0b"))


def test_a_link_reads_what_comes_in_pieces_and_ends_with_the_socket() -> None:
    ours, theirs = socket.socketpair()
    large = Reply({"value": "x" * 3_000_000})

    def speak() -> None:
        ours.sendall(frame(large) + frame(Reply()) + frame(Reply())[:3])
        ours.close()

    speaker = threading.Thread(target=speak)
    speaker.start()
    with theirs:
        link = Link(theirs)
        assert [link.receive() for _ in range(3)] == [large, Reply(), None]
    speaker.join()
