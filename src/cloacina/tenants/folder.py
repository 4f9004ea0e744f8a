"""Tenants in a folder: each has an SQLite database there, a file that its owner alone may read."""

from __future__ import annotations

import os
from pathlib import Path

from cloacina.backup import refuse_live
from cloacina.clock import SystemClock
from cloacina.errors import ValidationError
from cloacina.store.location import Location
from cloacina.store.sqlite import tenants as files
from cloacina.tenants.values import TenantConfig, TenantCredentials


class FolderTenants:
    """The tenants whose databases are in a folder, which must be there when it is used."""

    def __init__(self, location: Location) -> None:
        if location.path is None:
            raise ValidationError(
                "a database in memory has no tenants: give a folder, as in sqlite:///tenants/"
            )
        self._folder = Path(os.path.realpath(location.path))

    def create(self, config: TenantConfig) -> TenantCredentials:
        if config.password is not None:
            raise ValidationError(f"tenant {config.name!r}: an SQLite file has no password; leave it out")
        location = files.place(self._folder, config.name)
        files.create(location)
        return TenantCredentials(config.name, None, None, None, f"sqlite:///{location}")

    def remove(self, name: str) -> None:
        location = files.place(self._folder, name)
        files.remove(location, lambda: refuse_live(location, SystemClock()))

    def names(self) -> list[str]:
        return files.names(self._folder)

    def update(self) -> list[str]:
        return self.names()

    def __str__(self) -> str:
        return str(self._folder)
