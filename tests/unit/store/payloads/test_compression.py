"""Compression: only what is worth it, whole, and never without bound."""

from __future__ import annotations

import os
import zlib

import pytest

from cloacina.errors import PayloadError, ValidationError
from cloacina.store.payloads import Compression, compression
from support.payloads import place

WORDS = b'{"name": "value", "number": 12345}' * 100


def test_only_what_is_longer_and_shrinks_is_compressed() -> None:
    codec = Compression(over=len(WORDS))
    assert codec.encode(WORDS, place()) is None
    packed = codec.encode(WORDS + b" ", place())
    assert packed is not None and len(packed) < len(WORDS) / 10
    assert codec.encode(os.urandom(len(WORDS) + 1), place()) is None


def test_it_comes_back_whole() -> None:
    packed = Compression(over=0).encode(WORDS, place())
    assert packed is not None
    assert Compression().decode(packed, place()) == WORDS
    for cut in (packed[:-1], packed + b"x", b""):
        with pytest.raises(PayloadError, match="cut off"):
            Compression().decode(cut, place())


def test_a_change_of_any_byte_never_gives_other_data() -> None:
    packed = Compression(over=0).encode(WORDS, place())
    assert packed is not None
    for position in range(len(packed)):
        changed = bytearray(packed)
        changed[position] ^= 0x41
        with pytest.raises((PayloadError, zlib.error)):
            assert Compression().decode(bytes(changed), place()) == WORDS
            raise PayloadError("it is the same: two headers mean one thing")


def test_a_bomb_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compression, "MOST_BYTES", 10_000)
    with pytest.raises(PayloadError, match="longer than 10000 bytes"):
        Compression().decode(zlib.compress(bytes(10_001)), place())
    assert len(Compression().decode(zlib.compress(bytes(10_000)), place())) == 10_000


@pytest.mark.parametrize("bad", [{"over": -1}, {"over": 1.5}, {"over": True}, {"level": 0}, {"level": 10}])
def test_bad_sizes_are_refused(bad: dict[str, int]) -> None:
    with pytest.raises(ValidationError, match=next(iter(bad))):
        Compression(**bad)
