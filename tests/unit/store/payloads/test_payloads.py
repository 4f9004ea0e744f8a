"""The chain of codecs: what is stored for a payload, and what is made of it again."""

from __future__ import annotations

import errno
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloacina.errors import PayloadError, StoreRefused, StoreUnavailable, ValidationError
from cloacina.model.json.values import encode
from cloacina.store.payloads import Checksum, Compression, Encryption, Offload, PayloadPlace, Payloads
from cloacina.store.payloads.payloads import read_payload, read_words, unreadable, why_unreadable
from support.payloads import encryption, place

LONG = encode({"text": "abc " * 500})
CHAINS = {
    "compressed": [Compression(over=0)],
    "summed": [Checksum()],
    "encrypted": [encryption()],
    "all": [Compression(over=0), Checksum(), encryption()],
}


class Reversed:
    """A codec of a user."""

    marker = "rev2"

    def encode(self, data: bytes, where: PayloadPlace) -> bytes | None:
        return data[::-1]

    def decode(self, data: bytes, where: PayloadPlace) -> bytes:
        return data[::-1]


class Raising(Reversed):
    def __init__(self, error: BaseException) -> None:
        self.error = error

    def encode(self, data: bytes, where: PayloadPlace) -> bytes | None:
        raise self.error

    def decode(self, data: bytes, where: PayloadPlace) -> bytes:
        raise self.error


@pytest.mark.parametrize("codecs", CHAINS.values(), ids=CHAINS)
@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=300))
def test_what_comes_out_is_what_went_in(codecs: list[Any], text: str) -> None:
    payloads, where = Payloads(codecs), place(column="executions.error")
    assert payloads.decode(payloads.encode(text, where), where) == text


@pytest.mark.parametrize("codecs", CHAINS.values(), ids=CHAINS)
def test_what_is_encoded_is_ascii_and_no_json(codecs: list[Any]) -> None:
    stored = Payloads(codecs).encode(LONG, place())
    assert stored.isascii() and stored.startswith("!") and LONG[10:40] not in stored
    assert isinstance(why_unreadable(stored, "it"), PayloadError)


def test_a_payload_that_no_codec_changes_stays_the_same_text() -> None:
    payloads = Payloads([Compression(over=1_000), Offload()])
    text = encode({"a": 1})
    assert payloads.encode(text, place()) is text
    assert payloads.decode(text, place()) is text


@pytest.mark.parametrize(
    ("codecs", "text", "left"),
    [
        ([Compression(over=1_000), Offload(over=2_000)], "x" * 1_000, True),
        ([Compression(over=1_000), Offload(over=2_000)], "x" * 1_001, False),
        ([Compression(over=1_000), Reversed()], "x", False),
        ([Compression(over=1_000)], "\U0001f600" * 300, False),
        ([Compression(over=1_000)], "!x", False),
        ([encryption()], "", False),
        ([], "x" * 1_000_000, True),
    ],
)
def test_what_no_codec_is_asked_about(codecs: list[Any], text: str, left: bool) -> None:
    payloads = Payloads(codecs)
    assert payloads.leaves(text) is left
    assert not left or payloads.encode(text, place()) is text


def test_the_markers_say_what_was_done() -> None:
    payloads = Payloads([Compression(over=100), Reversed()])
    assert payloads.encode("{}", place()) == "!rev2:fXs="
    assert payloads.encode(LONG, place()).startswith("!z.rev2:")


@pytest.mark.parametrize("text", ["!", "!e:AAAA", "!!", "! not what it was", "!?: no reason"])
def test_words_that_look_encoded_are_told_apart(text: str) -> None:
    payloads, where = Payloads([Compression()]), place(column="executions.error")
    stored = payloads.encode(text, where)
    assert stored.startswith("!t:")
    assert payloads.decode(stored, where) == text


def test_what_was_compressed_or_summed_is_read_by_any_chain() -> None:
    written = Payloads([Compression(over=0), Checksum()]).encode(LONG, place())
    assert Payloads([]).decode(written, place()) == LONG


def test_a_codec_that_is_missing_is_named() -> None:
    stored = Payloads([Reversed()]).encode("{}", place())
    with pytest.raises(
        PayloadError, match="input of execution x1 cannot be read: .* 'rev2', and there are 'z'"
    ):
        Payloads([]).decode(stored, place())


DAMAGED = ["!z:", "!z:AA==", "!:e30=", "!Z:e30=", "!z.:e30=", "!", "!?:", "!t:e30", "!t:e31=", "!t:/w=="]


@pytest.mark.parametrize("stored", [*DAMAGED, "!z e30=", "!t:e3 0="])
def test_what_no_codec_stores_is_refused(stored: str) -> None:
    with pytest.raises(PayloadError, match="the input of execution x1 cannot be read: it"):
        Payloads([]).decode(stored, place())


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "disk full"), MemoryError(), TimeoutError("kms")])
def test_a_lack_while_storing_may_pass(error: Exception) -> None:
    with pytest.raises(
        StoreUnavailable, match="the input of execution x1 cannot be stored: .*; it is tried again"
    ):
        Payloads([Raising(error)]).encode("{}", place())


@pytest.mark.parametrize("error", [ValueError("odd"), KeyError("k"), RecursionError(), SystemExit(3)])
def test_a_codec_that_fails_refuses_the_payload(error: BaseException) -> None:
    with pytest.raises(StoreRefused, match=f"execution x1 cannot be stored: {type(error).__name__}"):
        Payloads([Raising(error)]).encode("{}", place())


@pytest.mark.parametrize("made", ["text", 5, True, ["x"]])
def test_a_codec_that_makes_no_bytes_refuses_the_payload(made: Any) -> None:
    class Wrong(Reversed):
        def encode(self, data: bytes, where: PayloadPlace) -> Any:
            return made

    with pytest.raises(StoreRefused, match="execution x1 cannot be stored: TypeError: .*bytes"):
        Payloads([Wrong()]).encode("{}", place())


@pytest.mark.parametrize("error", [ValueError("odd"), OSError(5, "EIO"), MemoryError(), SystemExit(3)])
def test_a_codec_that_fails_to_read_is_a_payload_that_cannot_be_read(error: BaseException) -> None:
    stored = Payloads([Reversed()]).encode("{}", place())
    with pytest.raises(PayloadError, match=type(error).__name__):
        Payloads([Raising(error)]).decode(stored, place())


def test_what_may_be_read_later_is_no_damage() -> None:
    stored = Payloads([Reversed()]).encode("{}", place())
    with pytest.raises(StoreUnavailable):
        Payloads([Raising(StoreUnavailable("no descriptors"))]).decode(stored, place())


@pytest.mark.parametrize(
    ("codecs", "why"),
    [
        ([Offload(), Compression()], "Offload must be the last"),
        ([encryption(), Compression()], "Compression must come before"),
        ([Compression(), Compression(over=7)], "two payload codecs have one marker: z, z"),
        (["z"], "'z' is no payload codec"),
        (Compression(), r"Payloads\(\[\.\.\.\]\)"),
        ([Encryption], "marker"),
    ],
)
def test_a_chain_that_makes_no_sense_is_refused(codecs: Any, why: str) -> None:
    if codecs == [Encryption]:
        codec = Reversed()
        codec.marker = "t"
        codecs = [codec]
    with pytest.raises(ValidationError, match=why):
        Payloads(codecs)


def test_offloading_needs_a_file() -> None:
    payloads = Payloads([Offload()])
    with pytest.raises(ValidationError, match="Offload needs a database in a file"):
        payloads.check(None)
    Payloads([encryption()]).check(None)


@pytest.mark.parametrize(
    "column", ["executions.input", "executions.result", "attempts.delta", "checkpoints.value"]
)
def test_plain_data_can_be_refused(column: str) -> None:
    strict = Payloads([Compression(over=0), encryption(accept_plain=False)])
    where = place(column=column)
    assert strict.decode(strict.encode("{}", where), where) == "{}"
    for forged in ("{}", Payloads([Compression(over=0)]).encode(LONG, where)):
        assert Payloads([encryption()]).decode(forged, where)
        with pytest.raises(PayloadError, match="it is not encrypted"):
            strict.decode(forged, where)


def test_plain_words_of_the_database_itself_are_always_read() -> None:
    strict = Payloads([encryption(accept_plain=False)])
    assert strict.decode("runner x is dead", place(column="events.detail")) == "runner x is dead"


def test_a_payload_from_the_store_is_json_or_an_error() -> None:
    assert read_payload('{"a": 1}', "it") == {"a": 1}
    with pytest.raises(
        PayloadError, match="it cannot be read: it is stored by the payload codecs 'e'.*payloads="
    ):
        read_payload("!e:AAAA", "it")
    with pytest.raises(PayloadError, match="^the reason$"):
        read_payload(unreadable(PayloadError("the reason")), "it")
    with pytest.raises(PayloadError, match="it cannot be read: it is not readable as JSON"):
        read_payload('"e:AAAA', "it")


def test_words_from_the_store_are_words_or_the_reason() -> None:
    assert read_words("a: failed", "it") == "a: failed"
    assert read_words("! happens", "it") == "! happens"
    assert "without payloads=" in read_words("!e:AAAA", "it")


def test_the_repr_shows_no_secret() -> None:
    assert repr(Payloads([Compression(), encryption("old", "new")])) == (
        "Payloads([Compression(over=1000, level=1), Encryption(keys='old', 'new', current='old')])"
    )


@pytest.mark.parametrize(
    ("where", "told"),
    [
        (place(), "the input"),
        (place(column="attempts.delta")._replace(task="t", attempt=2), "the delta of attempt 2 of task 't'"),
        (place(column="checkpoints.value")._replace(task="t", name="n"), "checkpoint 'n' of task 't'"),
    ],
)
def test_a_place_says_where_it_is(where: PayloadPlace, told: str) -> None:
    assert str(where) == f"{told} of execution x1"
