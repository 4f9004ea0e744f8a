"""Places: the databases that the machine runs on, each example on an empty one, and a view of their rows from aside."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cloacina.logic.deaths import Look, Patience, Watch, suspects
from cloacina.model.status import Reason
from cloacina.store.location import parse_location
from cloacina.store.postgres.location import server_location
from cloacina.store.sqlite.database import Database
from statemachine.rows import Rows
from support.runners import MEMORY

if TYPE_CHECKING:
    from support.postgres.server import PostgresServer

_numbers = count(1)


class Place:
    """A database in memory: it belongs to one runner, and ends with it."""

    url = MEMORY
    schema: str | None = None
    own = False
    """True if others than the first runner can open it."""

    def begin(self) -> None:
        """An example begins."""

    def rows(self) -> Rows:
        raise NotImplementedError

    def end(self) -> None:
        """The example is over."""


class _Shared(Place):
    own = True
    _database: Callable[[], Any]

    def begin(self) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._thread.submit(self._open).result()

    def rows(self) -> Rows:
        return self._thread.submit(Rows.read, self._reader).result()

    def end(self) -> None:
        self._thread.submit(self._reader.close).result()
        self._thread.shutdown()

    def _open(self) -> None:
        database = self._database()
        database.writer().close()
        self._reader = database.reader()


class FilePlace(_Shared):
    """A file, in memory where there is a file system for that: it is not about power cuts."""

    def begin(self) -> None:
        shm = Path("/dev/shm")
        self._folder = tempfile.mkdtemp(prefix="statemachine-", dir=shm if shm.is_dir() else None)
        self.url = f"sqlite:///{self._folder}/c.db"
        self._database = lambda: Database(parse_location(Path(self._folder) / "c.db"))
        super().begin()

    def end(self) -> None:
        super().end()
        shutil.rmtree(self._folder, ignore_errors=True)


class ServerPlace(_Shared):
    """A schema on a server."""

    def __init__(self, server: PostgresServer) -> None:
        self._server = server
        self.url = server.url()

    def begin(self) -> None:
        from cloacina.store.postgres.database import PostgresDatabase

        self.schema = f"machine_{next(_numbers)}"
        self._database = lambda: PostgresDatabase(server_location(self.url, self.schema))
        super().begin()

    def end(self) -> None:
        super().end()
        assert self.schema is not None
        self._server.drop_schema(self.schema)


def judge_at_once(watch: Watch, look: Look, patience: Patience) -> tuple[Watch, dict[str, Reason]]:
    """Who is suspect is dead, as where a file's lock is free: that it takes two looks is tested apart."""
    return replace(watch, last=look), suspects(look)
