"""Tenants on a server: each has a schema there, and a login of its own."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace

from cloacina.observe.logs import get_logger
from cloacina.store.postgres import tenants as statements
from cloacina.store.postgres.location import ServerLocation
from cloacina.store.postgres.server.connection import Connection
from cloacina.store.postgres.server.scram import scram_verifier
from cloacina.tenants.values import TenantConfig, TenantCredentials, draw_password

log = get_logger("tenants")


class ServerTenants:
    """The tenants of a database on PostgreSQL whose roles begin with ``role_prefix``."""

    def __init__(self, location: ServerLocation, role_prefix: str, *, keep_public_rights: bool) -> None:
        self._location = location
        self._prefix = f"{role_prefix}_"
        self._keep_public_rights = keep_public_rights

    def create(self, config: TenantConfig) -> TenantCredentials:
        name, role = config.name, self._prefix + config.name
        # The password stays in here: a local variable of its own would be shown by tools that report errors.
        login = TenantCredentials(name, name, role, config.password or draw_password(), url="")
        with self._open(name) as connection:
            made = statements.create(connection, _role(login, config), keep_public=self._keep_public_rights)
        if made.revoked:
            log.warning(
                "%s: roles without a grant of their own may no longer %s", self, " or ".join(made.revoked)
            )
        if made.left:
            log.warning("%s: tenant %s may %s, as PUBLIC may", self, name, " and ".join(made.left))
        return replace(
            login, url=statements.url_for(self._location, made.database, role, login.password or "")
        )

    def remove(self, name: str) -> None:
        with self._open(name) as connection:
            statements.remove(connection, self._prefix + name)

    def names(self) -> list[str]:
        with self._open() as connection:
            return statements.names(connection, self._prefix)

    def update(self) -> list[str]:
        names = self.names()
        for name in names:
            with self._open(name) as connection:
                statements.update(connection, self._prefix + name)
        return names

    def _open(self, tenant: str | None = None) -> closing[Connection]:
        place = self._location if tenant is None else replace(self._location, schema=tenant)
        return closing(statements.administer(place))

    def __str__(self) -> str:
        return str(self._location).partition(" (schema")[0]


def _role(login: TenantCredentials, config: TenantConfig) -> statements.TenantRole:
    assert login.username is not None and login.password is not None
    timeouts = {
        "statement_timeout": config.statement_timeout,
        "lock_timeout": config.lock_timeout,
        "idle_in_transaction_session_timeout": config.idle_in_transaction_timeout,
    }
    settings = {name: f"{seconds * 1000:.0f}ms" for name, seconds in timeouts.items()}
    return statements.TenantRole(
        login.username,
        scram_verifier(login.password),
        config.connection_limit,
        {"search_path": "", **settings},
    )
