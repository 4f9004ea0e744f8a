"""A recording: one execution as it is stored, with what each attempt changed, as a value that can be kept in a file."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import msgspec

from cloacina.errors import ExecutionNotFound, StoreError, ValidationError
from cloacina.store.location import Location, read_location
from cloacina.store.payloads.payloads import Payloads
from cloacina.store.payloads.place import PayloadHome
from cloacina.store.payloads.stores import decoding_store
from cloacina.store.port import ReadStore
from cloacina.store.rows import StoredExecution
from cloacina.versions import look

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Recording:
    """One execution: its rows, and the DAG of its version as JSON.

    It holds the execution's input, its result and whatever its tasks wrote, readable by anybody who has the file.
    """

    stored: StoredExecution
    dag: str

    def save(self, path: str | PathLike[str]) -> Path:
        """Write it to a file, as JSON; return the path."""
        target = Path(path)
        text = msgspec.json.encode(_Kept(FORMAT, self.stored, self.dag))
        target.write_bytes(msgspec.json.format(text, indent=1) + b"\n")
        return target

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Recording:
        """Read what `save` wrote. Raises `ValidationError` if that is not what the file holds."""
        try:
            kept = msgspec.json.decode(Path(path).read_bytes(), type=_Kept)
        except (OSError, msgspec.MsgspecError) as error:
            raise ValidationError(
                f"{path} is no recording: {error}; make one with record(url, id)"
            ) from error
        if kept.format != FORMAT:
            raise ValidationError(f"{path} was recorded by another cloacina, as format {kept.format}")
        return cls(kept.execution, kept.dag)

    def __repr__(self) -> str:
        return f"<Recording of {self.stored.workflow} {self.stored.id}: {self.stored.status}>"


class _Kept(msgspec.Struct):
    format: int
    execution: StoredExecution
    dag: str


def record(
    url: str | PathLike[str], id: str, *, schema: str | None = None, payloads: Payloads | None = None
) -> Recording:
    """The execution ``id`` as it is stored now, ended or not, in the database at ``url``; of a test's runner, `record`.

    ``schema`` and ``payloads`` are those of the runners. It only reads, blocks meanwhile, and may run beside live
    runners. Raises `ExecutionNotFound`, `ValidationError` for a database that is not there or in memory, and
    `StoreError` if it cannot be opened or read.
    """

    def read(store: ReadStore) -> Recording:
        if payloads is not None:
            location = read_location(url, schema)
            folder = location.resolved().payloads if isinstance(location, Location) else None
            store = decoding_store(store, payloads, PayloadHome(store.instance(), folder))
        return recorded(store, id)

    return look(url, schema, read)


def recorded(store: ReadStore, id: str) -> Recording:
    """The execution ``id`` as it is in ``store``. Raises `ExecutionNotFound` and `StoreError`."""
    stored = store.execution(id)
    if stored is None:
        raise ExecutionNotFound(f"there is no execution {id}: list() tells which there are")
    dag = store.dag(stored.workflow, stored.version)
    if dag is None:
        raise StoreError(f"the database does not know version {stored.version} of {stored.workflow!r}")
    return Recording(stored, dag[1])
