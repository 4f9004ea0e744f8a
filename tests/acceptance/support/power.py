"""Power cuts: what a disk may hold if the power had gone at some moment of a recorded run.

A file holds what was written before its last sync. Of what was written after it, each sector may be there or
not, and so may each change of its length. The ledger holds what was said up to that moment.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import msgspec

SECTOR = 512


class Operation(NamedTuple):
    """One thing that happened: ``said`` is a line of the ledger, the others befell a file."""

    kind: str
    file: str
    offset: int
    data: bytes


class Image(NamedTuple):
    """What is found after a power cut: the files by name, and the ledger."""

    files: dict[str, bytearray]
    said: bytes

    def write(self, folder: Path) -> None:
        """Write it where a stage finds it."""
        folder.mkdir()
        for name, content in self.files.items():
            (folder / name).write_bytes(content)
        (folder / "ledger").write_bytes(self.said)


@dataclass(slots=True)
class _File:
    """A file on the disk: what is safe, and what was done to it since the last sync."""

    safe: bytearray = field(default_factory=bytearray)
    unsafe: list[Operation] = field(default_factory=list)
    there: bool = True

    def do(self, operation: Operation) -> None:
        self.there = operation.kind != "delete"
        if operation.kind == "delete":
            self.safe.clear()
            self.unsafe.clear()
        elif operation.kind == "sync":
            for one in self.unsafe:
                _apply(self.safe, one)
            self.unsafe.clear()
        else:
            self.unsafe.append(operation)

    def after_a_cut(self, rng: random.Random, share: float) -> bytearray:
        """What is found afterwards, if each unsafe sector was written with probability ``share``."""
        found = bytearray(self.safe)
        for one in self.unsafe:
            if one.kind == "truncate":
                if rng.random() < share:
                    _apply(found, one)
                continue
            for at in range(0, len(one.data), SECTOR):
                if rng.random() < share:
                    _apply(found, one._replace(offset=one.offset + at, data=one.data[at : at + SECTOR]))
        return found


def read(trace: Path) -> list[Operation]:
    """Everything that happened in a recorded run."""
    text, found, at = trace.read_bytes(), [], 0
    while at < len(text):
        length = int.from_bytes(text[at : at + 4], "big")
        found.append(msgspec.msgpack.decode(text[at + 4 : at + 4 + length], type=Operation))
        at += 4 + length
    return found


def cuts(
    trace: Sequence[Operation], database: str, start: bytes, rng: random.Random, many: int
) -> Iterator[Image]:
    """What is found after a power cut at so many moments of a run, in order.

    ``start`` is what the database file held before the run. What was under way at the moment is not done.
    """
    files: dict[str, _File] = {database: _File(bytearray(start))}
    said: list[bytes] = []
    moments = set(rng.choices(range(1, len(trace)), k=many))
    for number, operation in enumerate(trace):
        if number in moments:
            share = rng.choice((0.0, 0.5, 0.9, 1.0))
            found = {name: file.after_a_cut(rng, share) for name, file in files.items() if file.there}
            yield Image(found, b"".join(said))
        if operation.kind == "said":
            said.append(operation.data)
        elif operation.file.startswith(database):
            files.setdefault(operation.file, _File()).do(operation)


def _apply(content: bytearray, operation: Operation) -> None:
    if operation.kind == "truncate":
        del content[operation.offset :]
        return
    end = operation.offset + len(operation.data)
    if len(content) < operation.offset:
        content.extend(bytes(operation.offset - len(content)))
    content[operation.offset : end] = operation.data
