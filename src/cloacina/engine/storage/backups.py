"""Backups that an engine makes of its database, each on a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from os import PathLike
from pathlib import Path

from cloacina.engine.storage.storage import Storage
from cloacina.observe.logs import get_logger
from cloacina.store.location import parse_location

log = get_logger("backup")


class Backups:
    """Those that are being made now; they are given up when the engine stops, or when nobody waits for them."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._made: dict[asyncio.Future[Path], threading.Event] = {}

    async def make(self, target: str | PathLike[str], *, overwrite: bool) -> Path:
        """Copy the database to ``target`` and return its path. Raises as `back_up` does."""
        location = parse_location(target)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Path] = loop.create_future()
        given_up = threading.Event()

        def work() -> None:
            made: Path | None = None
            error: BaseException | None = None
            try:
                made = self._storage.back_up(
                    location, overwrite=overwrite, go_on=lambda: not given_up.is_set()
                )
            except BaseException as caught:
                error = caught
            with suppress(RuntimeError):  # the loop was closed: nobody waits
                loop.call_soon_threadsafe(self._settle, future, made, error)

        self._made[future] = given_up
        threading.Thread(target=work, name="cloacina-backup", daemon=True).start()
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            given_up.set()
            raise

    async def stop(self) -> None:
        """Give up all of them, and wait until nothing is left of them."""
        for given_up in self._made.values():
            given_up.set()
        if self._made:
            await asyncio.wait(set(self._made))

    def _settle(self, future: asyncio.Future[Path], made: Path | None, error: BaseException | None) -> None:
        del self._made[future]
        if made is not None:
            log.info("backup made: %s", made)
            future.set_result(made)
        elif error is not None:
            future.set_exception(error)
            future.exception()  # somebody who was cancelled does not ask for it
