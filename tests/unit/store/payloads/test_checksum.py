"""The checksum: it notices every change, and every payload that is not where it belongs."""

from __future__ import annotations

import pytest

from cloacina.errors import PayloadError
from cloacina.store.payloads import Checksum, Payloads
from support.payloads import place


def test_a_change_of_any_byte_is_noticed() -> None:
    stored = Checksum().encode(b'{"a": 1}', place())
    assert Checksum().decode(stored, place()) == b'{"a": 1}'
    for position in range(len(stored)):
        changed = bytearray(stored)
        changed[position] ^= 1
        with pytest.raises(PayloadError, match="its checksum is another"):
            Checksum().decode(bytes(changed), place())


def test_a_payload_of_another_row_is_noticed() -> None:
    payloads = Payloads([Checksum()])
    stored = payloads.encode("{}", place("x1"))
    with pytest.raises(PayloadError, match="input of execution x2 .* moved from elsewhere"):
        payloads.decode(stored, place("x2"))
