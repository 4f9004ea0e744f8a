"""The administrator of a database: makes, lists and removes its tenants."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from os import PathLike
from typing import Protocol, TypeVar

from cloacina.errors import ValidationError
from cloacina.observe.logs import get_logger
from cloacina.store.location import Location, read_location
from cloacina.store.postgres.driver import driver_needed
from cloacina.store.postgres.location import ServerLocation, check_schema
from cloacina.tenants.folder import FolderTenants
from cloacina.tenants.values import TenantConfig, TenantCredentials

T = TypeVar("T")

_PREFIX = re.compile(r"(?!pg$|pg_)[a-z][a-z0-9_]{0,13}")
"""With a name of 48 characters and ``_`` between, a role's name stays within PostgreSQL's 63."""

log = get_logger("tenants")


class DatabaseAdmin:
    """Makes and removes tenants. Making it does no I/O; each call has a connection and a thread of its own.

    ``url`` is a PostgreSQL database, with a login that is a superuser, or has CREATEROLE and owns the database; or a
    folder for SQLite files (``sqlite:///tenants/``), which is there.

    On PostgreSQL, the login role of tenant ``acme`` is ``<role_prefix>_acme``. Roles belong to a whole server: two
    databases on it that have tenants of the same names need two prefixes.

    A tenant must make nothing outside its schema, but whatever PUBLIC may do, every role may. So `create_tenant` takes
    from PUBLIC, with a warning in the log, the rights to make temporary tables in this database and tables in its
    schema ``public``. Other programs that use these rights in the same database then need a GRANT of their own;
    ``keep_public_rights=True`` leaves PUBLIC as it is. What a tenant still may make is logged as a warning, too. The
    right to connect to other databases of the server is not touched.

    Raises `ValidationError` for bad arguments, `MissingExtra` if PostgreSQL's driver is not installed. No message of
    this class shows a password.
    """

    def __init__(
        self, url: str | PathLike[str], *, role_prefix: str = "cloacina", keep_public_rights: bool = False
    ) -> None:
        self._blocking = BlockingDatabaseAdmin(
            url, role_prefix=role_prefix, keep_public_rights=keep_public_rights
        )

    async def create_tenant(self, config: TenantConfig) -> TenantCredentials:
        """Make a tenant, whole or not at all, and return what its processes log in with.

        The password is returned here and kept nowhere. If the outcome stays unknown (`StoreUnavailable`), remove the
        tenant and create it again. A call that is cancelled is carried out none the less.

        Raises `AdminError` if there is such a tenant, schema or role or if the login may not make one, and
        `StoreError`.
        """
        return await asyncio.to_thread(self._blocking.create_tenant, config)

    async def remove_tenant(self, name: str) -> None:
        """Remove a tenant with all that it stored, for good. If that ends half way, call it again.

        On PostgreSQL the tenant's role is locked out and its sessions are ended first: runners that are alive fail. On
        SQLite `StoreBusy` is raised while a program has the file open.

        Raises `AdminError` if there is no such tenant or if the login may not remove it, and `StoreError`.
        """
        await asyncio.to_thread(self._blocking.remove_tenant, name)

    async def list_tenants(self) -> list[str]:
        """The names of all tenants, in order. Raises `StoreError`."""
        return await asyncio.to_thread(self._blocking.list_tenants)

    async def update_tenants(self) -> list[str]:
        """Bring the tables of all tenants to this version of cloacina, and return the tenants' names.

        For PostgreSQL, after an upgrade of cloacina: a tenant's own login cannot change tables. An SQLite file is
        brought there by the first runner that opens it. Raises `StoreError`; then some are up to date.
        """
        return await asyncio.to_thread(self._blocking.update_tenants)

    def __repr__(self) -> str:
        return repr(self._blocking).removeprefix("Blocking")


class BlockingDatabaseAdmin:
    """`DatabaseAdmin` for code that blocks: scripts, and notebooks, where a loop runs already."""

    def __init__(
        self, url: str | PathLike[str], *, role_prefix: str = "cloacina", keep_public_rights: bool = False
    ) -> None:
        if not isinstance(role_prefix, str) or not _PREFIX.fullmatch(role_prefix):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ValidationError(
                f"role_prefix={role_prefix!a:.80} must be 1 to 14 of a-z, 0-9 and '_', start with a letter, and be "
                "neither 'pg' nor begin with 'pg_'"
            )
        location = read_location(url)
        self._tenants: _Tenants = (
            FolderTenants(location)
            if isinstance(location, Location)
            else _on_server(location, role_prefix, keep_public_rights)
        )

    def create_tenant(self, config: TenantConfig) -> TenantCredentials:
        """See `DatabaseAdmin.create_tenant`."""
        if not isinstance(config, TenantConfig):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ValidationError(
                f"create_tenant takes a TenantConfig, not {type(config).__name__}: write TenantConfig('acme')"
            )
        check_schema(config.name)
        made = _aside(lambda: self._tenants.create(config))
        log.info("tenant %s was created in %s", config.name, self._tenants)
        return made

    def remove_tenant(self, name: str) -> None:
        """See `DatabaseAdmin.remove_tenant`."""
        checked = check_schema(name)
        _aside(lambda: self._tenants.remove(checked))
        log.info("tenant %s was removed from %s", name, self._tenants)

    def list_tenants(self) -> list[str]:
        """See `DatabaseAdmin.list_tenants`."""
        return _aside(self._tenants.names)

    def update_tenants(self) -> list[str]:
        """See `DatabaseAdmin.update_tenants`."""
        return _aside(self._tenants.update)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self._tenants)!r})"


class _Tenants(Protocol):
    """Tenants where they are, which its text says."""

    def create(self, config: TenantConfig) -> TenantCredentials: ...

    def remove(self, name: str) -> None: ...

    def names(self) -> list[str]: ...

    def update(self) -> list[str]: ...


def _aside(job: Callable[[], T]) -> T:
    """Run ``job`` on a thread: a connection to a server has a loop of its own, and there may be one here."""
    with ThreadPoolExecutor(1, "cloacina-admin") as thread:
        return thread.submit(job).result()


def _on_server(location: ServerLocation, role_prefix: str, keep_public_rights: bool) -> _Tenants:
    with driver_needed():
        from cloacina.tenants.server import ServerTenants
    return ServerTenants(location, role_prefix, keep_public_rights=keep_public_rights)
