"""The payloads of a database: which codecs they go through on their way in, and how they are read again.

An encoded payload is a text that no JSON document can be: ``!``, the markers of its codecs in the order in
which they were used, ``:``, and base64. So plain and encoded payloads lie side by side, each says how it is
read, and no setting changes what is stored already.
"""

from __future__ import annotations

import re
import sys
from binascii import Error as NotBase64
from binascii import a2b_base64, b2a_base64
from collections.abc import Iterable, Sequence
from pathlib import Path

from cloacina.errors import (
    ContextError,
    PayloadError,
    StoreError,
    StoreRefused,
    StoreUnavailable,
    ValidationError,
)
from cloacina.model.json.values import JSON, decode
from cloacina.store.payloads.checksum import Checksum
from cloacina.store.payloads.codec import PayloadCodec
from cloacina.store.payloads.compression import Compression
from cloacina.store.payloads.offload import Offload
from cloacina.store.payloads.place import PayloadPlace

DATA = frozenset(("executions.input", "executions.result", "attempts.delta", "checkpoints.value"))
"""The columns whose payloads are JSON that executions work with; the others hold words for the reader."""

SIGN = "!"
_ENCODED = re.compile(r"!([a-z][a-z0-9]{0,15}(?:\.[a-z][a-z0-9]{0,15})*):", re.ASCII)
_MARKER = re.compile(r"[a-z][a-z0-9]{0,15}", re.ASCII)
_TEXT = "t"
"""The marker of a text that was not encoded, and looked as if it were."""

_UNREADABLE = "!?:"
"""What stands before the reason, in memory only, in place of a payload that could not be decoded."""


class Payloads:
    """The codecs of a runner, in the order in which they are applied: at most one of a kind.

    Compression comes before encryption, as what is encrypted does not shrink, and offloading last. What
    `Compression`, `Checksum` and `Offload` have stored is read even if they are not among ``codecs`` any more.
    Raises `ValidationError` for another order, and for two codecs with one marker.
    """

    def __init__(self, codecs: Iterable[PayloadCodec]) -> None:
        if not isinstance(codecs, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ValidationError(f"{codecs!r:.80} is no list of codecs: write Payloads([...])")
        self._codecs = tuple(codecs)
        for codec in self._codecs:
            marker: object = getattr(codec, "marker", None)
            if not isinstance(marker, str) or not _MARKER.fullmatch(marker) or marker == _TEXT:
                raise ValidationError(f"{codec!r:.80} is no payload codec: marker={marker!r:.40}")
        markers = [codec.marker for codec in self._codecs]
        if len(set(markers)) < len(markers):
            raise ValidationError(f"two payload codecs have one marker: {', '.join(markers)}")
        _check_order(markers)
        ready_made: list[PayloadCodec] = [Compression(), Checksum(), Offload()]
        self._readers = {codec.marker: codec for codec in (*ready_made, *self._codecs)}
        sizes: list[object] = [getattr(codec, "over", -1) for codec in self._codecs]
        self._short = min((size if isinstance(size, int) else -1 for size in sizes), default=sys.maxsize)
        """Payloads of up to so many bytes are of no concern to any codec."""
        self._required = {codec.marker for codec in self._codecs if getattr(codec, "required", False)}

    def check(self, folder: Path | None) -> None:
        """Raise `ValidationError` if a codec cannot serve a database with that folder for its files."""
        if folder is None and any(codec.marker == Offload.marker for codec in self._codecs):
            raise ValidationError(
                "Offload needs a database in a file: memory and servers have no folder beside them; leave it out"
            )

    def leaves(self, text: str) -> bool:
        """True if `encode` surely returns ``text`` itself, wherever it is stored; costs nearly nothing."""
        return len(text) <= self._short and text.isascii() and not text.startswith(SIGN)

    def encode(self, text: str, where: PayloadPlace) -> str:
        """``text`` as it is stored. Raises `StoreRefused` if it never can be, `StoreUnavailable` if not now."""
        done: list[str] = []
        try:
            data = text.encode()
            for codec in self._codecs:
                changed = codec.encode(data, where)
                if changed is not None:
                    data = bytes(memoryview(changed))
                    done.append(codec.marker)
        except StoreError:
            raise
        except (OSError, MemoryError) as error:
            raise StoreUnavailable(f"{where} cannot be stored: {error}; it is tried again") from error
        except BaseException as error:  # whatever a codec raises: it is no reason to stop the engine
            raise StoreRefused(f"{where} cannot be stored: {type(error).__name__}: {error}") from error
        if not done and not text.startswith(SIGN):
            return text
        return f"{SIGN}{'.'.join(done or (_TEXT,))}:{b2a_base64(data, newline=False).decode()}"

    def decode(self, text: str, where: PayloadPlace) -> str:
        """What was given to `encode` with the same place.

        Raises `PayloadError` if that cannot be told for certain, `StoreUnavailable` if it may be told later.
        """
        try:
            if not text.startswith(SIGN):
                self._accept(where, ())
                return text
            found = _ENCODED.match(text)
            if found is None:
                raise PayloadError("it is damaged: no codec stores such a text")
            markers = found[1].split(".")
            self._accept(where, markers)
            data = _bytes(text[found.end() :])
            for marker in reversed(markers):
                if marker != _TEXT:
                    data = self._reader(marker).decode(data, where)
            return data.decode()
        except StoreUnavailable:
            raise
        except PayloadError as error:
            raise PayloadError(f"{where} cannot be read: {error}") from error.__cause__
        except BaseException as error:
            raise PayloadError(
                f"{where} cannot be read: it is damaged ({type(error).__name__}: {error})"
            ) from error

    def _reader(self, marker: str) -> PayloadCodec:
        codec = self._readers.get(marker)
        if codec is None:
            known = ", ".join(map(repr, self._readers))
            raise PayloadError(
                f"it was stored by a codec with marker {marker!r}, and there are {known}: add it"
            )
        return codec

    def _accept(self, where: PayloadPlace, markers: Sequence[str]) -> None:
        if where.column in DATA and not self._required.issubset(markers):
            raise PayloadError("it is not encrypted, and plain payloads are not accepted here")

    def __repr__(self) -> str:
        return f"Payloads([{', '.join(map(repr, self._codecs))}])"


def unreadable(error: PayloadError) -> str:
    """What stands in memory in place of a payload that could not be decoded."""
    return f"{_UNREADABLE}{error}"


def is_encoded(text: str) -> bool:
    """True for what `encode` makes of a payload, and for what `unreadable` does."""
    return text.startswith(_UNREADABLE) or _ENCODED.match(text) is not None


def read_payload(text: str, what: str) -> JSON:
    """The JSON that a payload is, as it came from the store; ``what`` names it for the message.

    Raises `PayloadError` if it could not be decoded, or is no JSON.
    """
    try:
        return decode(text)
    except ContextError as error:
        raise why_unreadable(text, what) or PayloadError(f"{what} cannot be read: it is {error}") from error


def read_words(text: str, what: str) -> str:
    """The words for the reader that a payload is, as it came from the store, or why they cannot be read."""
    return str(why_unreadable(text, what)) if _ENCODED.match(text) else text


def why_unreadable(text: str, what: str) -> PayloadError | None:
    """The error to raise for a payload as it came from the store, or None if it is not encoded any more."""
    if not text.startswith(SIGN):
        return None
    if text.startswith(_UNREADABLE):
        return PayloadError(text.removeprefix(_UNREADABLE))
    found = _ENCODED.match(text)
    how = f"stored by the payload codecs {found[1]!r}" if found else "damaged"
    return PayloadError(
        f"{what} cannot be read: it is {how}, and this program opened the database without payloads=; "
        "give it the codecs that the writer had"
    )


def _bytes(text: str) -> bytes:
    """The bytes that base64 text stands for; only the one text that `encode` makes of them is accepted."""
    data = a2b_base64(text, strict_mode=True)
    tail = len(data) % 3 or 3
    if b2a_base64(data[-tail:], newline=False).decode() != text[-4:]:
        raise NotBase64("loose bits at its end")
    return data


def _check_order(markers: Sequence[str]) -> None:
    place = {marker: position for position, marker in enumerate(markers)}
    if place.get("f", len(markers)) < len(markers) - 1:
        raise ValidationError("Offload must be the last of the payload codecs")
    if place.get("z", -1) > place.get("e", len(markers)):
        raise ValidationError("Compression must come before Encryption: what is encrypted does not shrink")
