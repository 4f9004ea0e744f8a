"""Backups of a database: putting one back. A runner makes one with ``await runner.backup(path)``."""

from __future__ import annotations

from os import PathLike

from cloacina.clock import SystemClock
from cloacina.engine.liveness.files.observer import LeaseFiles
from cloacina.errors import StoreBusy
from cloacina.observe.logs import get_logger
from cloacina.store.location import Location, parse_location
from cloacina.store.sqlite.copies.restore import Restored
from cloacina.store.sqlite.copies.restore import restore as put_back

__all__ = ["Restored", "restore"]

log = get_logger("backup")


def restore(backup: str | PathLike[str], url: str | PathLike[str]) -> Restored:
    """Put the backup at the path ``backup`` in place of the database at ``url``; returns what was done.

    All runners on the database must have been shut down. The file that was there is kept beside it, as
    ``<database>.before-restore-<n>``. What was running when the backup was made is free: the next runner goes on
    with it, and runs again what ran then. The epoch of the database is raised, so that it is told from what it was.

    Blocks while the file is copied. Raises `StoreBusy` if a runner or another program has the database open,
    `ValidationError` if there is no such backup or the paths cannot be meant, `StoreCorrupt` if the backup is
    damaged or none of ours, `SchemaTooNew`, and `StoreUnavailable`; the database is as it was then.
    """
    origin, target = parse_location(backup).resolved(), parse_location(url).resolved()
    clock = SystemClock()
    done = put_back(origin, target, clock.now(), lambda: refuse_live(target, clock))
    log.info("database %s was restored from %s, epoch %d", target, origin, done.epoch)
    return done


def refuse_live(target: Location, clock: SystemClock) -> None:
    """Raise `StoreBusy` if a runner is alive on the database, and name it."""
    if target.runners is None:
        return
    leases = LeaseFiles(target.runners, clock)
    dead = leases.dead("")
    live = [runner for runner in leases.names() if runner not in dead]
    if live:
        raise StoreBusy(
            f"database {target} is in use: shut its runners down first; alive: {len(live)} ({', '.join(live[:3])})"
        )
