"""Tenants on a server: for each a schema, and a login role that can read and write in it and do nothing else.

Every statement names one tenant, whose names were checked and are quoted. What is made for one is made in one
transaction, so there is all of it or nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from cloacina.errors import AdminError, StoreError
from cloacina.store.postgres.location import ServerLocation
from cloacina.store.postgres.prepare import migrate, prepare
from cloacina.store.postgres.server.checks import check_server
from cloacina.store.postgres.server.connection import Connection

_SESSION = {"statement_timeout": "120s", "lock_timeout": "30s"}
_DEADLINE = 150.0
"""Seconds; a schema with millions of rows is dropped, too."""

_EXISTS = ("42P06", "42710", "23505")
_GONE = ("42704", "3F000")
_NO_RIGHTS = "42501"
_IN_USE = "2BP01"
_LOGIN_PARAMETERS = frozenset("user password passfile service sslcert sslkey sslpassword options".split())  # noqa: SIM905

# Two that change the rights on one database at once would meet in its row; this only lets one wait for the other.
_ONE_AT_A_TIME = "SELECT pg_advisory_xact_lock(8026319002)"

_PRESENT = """
    SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = $1),
        EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = $2)"""

# A tenant is a schema on which the role of its name was granted something. One without a schema is what is left of
# it, if no other database of the server knows the role.
_OWN_SCHEMA = """
    SELECT EXISTS (
            SELECT FROM pg_catalog.pg_namespace, aclexplode(nspacl) AS granted
            WHERE nspname = $1 AND granted.grantee = pg_roles.oid),
        EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = $1),
        EXISTS (
            SELECT FROM pg_catalog.pg_shdepend WHERE refobjid = pg_roles.oid AND dbid <> 0
                AND dbid <> (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())),
        pg_has_role(pg_roles.oid, 'USAGE')
    FROM pg_catalog.pg_roles WHERE rolname = $2"""

_NAMES = """
    SELECT CAST(nspname AS TEXT) FROM pg_catalog.pg_namespace
    JOIN pg_catalog.pg_roles ON CAST(rolname AS TEXT) = CAST($1 AS TEXT) || nspname
    WHERE EXISTS (SELECT FROM aclexplode(nspacl) AS granted WHERE granted.grantee = pg_roles.oid)
    ORDER BY 1"""

_BEYOND = """
    SELECT has_database_privilege(CAST($1 AS NAME), current_database(), 'CONNECT'),
        has_database_privilege(CAST($1 AS NAME), current_database(), 'TEMPORARY'),
        has_database_privilege(CAST($1 AS NAME), current_database(), 'CREATE'),
        ARRAY(
            SELECT CAST(nspname AS TEXT) FROM pg_catalog.pg_namespace
            WHERE has_schema_privilege(CAST($1 AS NAME), oid, 'CREATE') ORDER BY 1),
        quote_ident(current_database()), CAST(current_database() AS TEXT)"""

_LOOKS = 5
"""How often sessions are ended: some had just logged in. One that stays can do nothing once its role is gone."""

# It waits for the end of each session, for so many ms.
_END_SESSIONS = """
    SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_catalog.pg_stat_activity
    WHERE usename = $1 AND pid <> pg_backend_pid()"""


@dataclass(frozen=True, slots=True)
class TenantRole:
    """The login role of a tenant. All of it was checked: the settings are those that its sessions begin with."""

    name: str
    verifier: str = field(repr=False)
    connections: int
    settings: Mapping[str, str]


class Made(NamedTuple):
    """The name of the database, the rights that PUBLIC lost, and those that let the role act beyond its schema."""

    database: str
    revoked: list[str]
    left: list[str]


class _Rights(NamedTuple):
    connect: bool
    temporary: bool
    create: bool
    schemas: list[str]
    quoted: str
    database: str


def administer(location: ServerLocation) -> Connection:
    """Open an administrator's session. Raises `StoreError`, and `UnsuitableServer` for one that is too old."""
    connection = Connection(location, settings=_SESSION, deadline=_DEADLINE)
    try:
        check_server(connection, allow_unsafe=True)
    except BaseException:
        connection.close()
        raise
    return connection


def create(connection: Connection, role: TenantRole, *, keep_public: bool) -> Made:
    """Make the tenant in the schema of the connection's location.

    Raises `AdminError` if there is such a schema or role, or if the login may not make them; nothing is made then.
    """
    tenant = connection.location.schema
    what = f"tenant {tenant!r} was not created in database {connection.location}"
    with _telling(what), connection.transaction():
        connection.rows(_ONE_AT_A_TIME)
        _refuse_present(connection, tenant, role.name)
        connection.script(f'CREATE SCHEMA "{tenant}"')
        connection.script(
            f'CREATE ROLE "{role.name}" LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOINHERIT NOREPLICATION '
            f"NOBYPASSRLS CONNECTION LIMIT {role.connections} PASSWORD '{role.verifier}'"
        )
        for name, value in role.settings.items():
            connection.script(f"ALTER ROLE \"{role.name}\" SET {name} = '{value}'")
        migrate(connection)
        _grant(connection, tenant, role.name)
        return _close_the_rest(connection, role.name, keep_public=keep_public)


def remove(connection: Connection, role: str) -> None:
    """Keep the role out, end its sessions, and drop its schema with all that is in it.

    If it ends half way, it can be called again. Raises `AdminError` if there is no such tenant here, or if the login
    may not remove it.
    """
    tenant = connection.location.schema
    with _telling(f"tenant {tenant!r} was not removed from database {connection.location}"):
        with connection.transaction():
            connection.rows(_ONE_AT_A_TIME)
            own, member = _find(connection, tenant, role)
            join = "" if member else f'GRANT "{role}" TO CURRENT_USER;'
            connection.script(f'ALTER ROLE "{role}" NOLOGIN; {join}')
        for _ in range(_LOOKS):
            if not connection.value(_END_SESSIONS, (role,)):
                break
        with connection.transaction():
            connection.rows(_ONE_AT_A_TIME)
            connection.script(f'DROP OWNED BY "{role}"')
            if own:
                connection.script(f'DROP SCHEMA "{tenant}" CASCADE')
            connection.script(f'DROP ROLE "{role}"')


def update(connection: Connection, role: str) -> None:
    """Bring the tenant's tables to this version, with the rights that its role has on all of them."""
    tenant = connection.location.schema
    with _telling(f"tenant {tenant!r} was not updated in database {connection.location}"):
        prepare(connection)
        with connection.transaction():
            connection.rows(_ONE_AT_A_TIME)
            _grant(connection, tenant, role)


def names(connection: Connection, prefix: str) -> list[str]:
    """The tenants of the database whose roles begin with ``prefix``, in order."""
    with _telling(f"the tenants of database {connection.location} could not be listed"):
        return [name for (name,) in connection.rows(_NAMES, (prefix,))]


def url_for(location: ServerLocation, database: str, user: str, password: str) -> str:
    """The URL of the same server for another login: whatever of it is the administrator's is left out."""
    parts = urlsplit(location.url)
    hosts = parts.netloc.rpartition("@")[2]
    kept = [(key, value) for key, value in parse_qsl(parts.query) if key not in _LOGIN_PARAMETERS]
    netloc = f"{quote(user, safe='')}:{quote(password, safe='')}@{hosts}"
    return urlunsplit(("postgresql", netloc, f"/{quote(database, safe='')}", urlencode(kept), ""))


def _refuse_present(connection: Connection, tenant: str, role: str) -> None:
    schema_there, role_there = connection.rows(_PRESENT, (tenant, role))[0]
    if schema_there:
        raise AdminError(
            f"tenant {tenant!r} was not created: database {connection.location} has a schema of that name; give "
            "another name, or remove the tenant first"
        )
    if role_there:
        raise AdminError(
            f"tenant {tenant!r} was not created: the server of database {connection.location} has a role {role!r}, "
            "perhaps that of a tenant in another database; give another name or another role_prefix="
        )


def _find(connection: Connection, tenant: str, role: str) -> tuple[bool, bool]:
    """True if the tenant has its schema, and if the administrator has the rights of its role."""
    row = connection.row(_OWN_SCHEMA, (tenant, role))
    if row is not None:
        own, schema_there, elsewhere, member = row
        if own or not (schema_there or elsewhere):
            return bool(own), bool(member)
    raise AdminError(
        f"there is no tenant {tenant!r} in database {connection.location}; see list_tenants(), and give the "
        "role_prefix= that it was created with"
    )


def _grant(connection: Connection, tenant: str, role: str) -> None:
    """The rights on the tables that are there, and on those that later versions add."""
    tables = "SELECT, INSERT, UPDATE, DELETE"
    connection.script(
        f'GRANT USAGE ON SCHEMA "{tenant}" TO "{role}";'
        f'GRANT {tables} ON ALL TABLES IN SCHEMA "{tenant}" TO "{role}";'
        f'GRANT USAGE ON ALL SEQUENCES IN SCHEMA "{tenant}" TO "{role}";'
        f'ALTER DEFAULT PRIVILEGES IN SCHEMA "{tenant}" GRANT {tables} ON TABLES TO "{role}";'
        f'ALTER DEFAULT PRIVILEGES IN SCHEMA "{tenant}" GRANT USAGE ON SEQUENCES TO "{role}"'
    )


def _close_the_rest(connection: Connection, role: str, *, keep_public: bool) -> Made:
    """Take from everybody what would let a tenant make something outside its schema.

    Where the login may not, the server only warns: what is left is looked at afterwards.
    """
    before = _rights(connection, role)
    if not before.connect:
        connection.script(f'GRANT CONNECT ON DATABASE {before.quoted} TO "{role}"')
    if not keep_public:
        if before.temporary:
            connection.script(f"REVOKE TEMPORARY ON DATABASE {before.quoted} FROM PUBLIC")
        if "public" in before.schemas:
            connection.script("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    after = _rights(connection, role)
    had, left = _told(before), _told(after)
    return Made(after.database, [right for right in had if right not in left], left)


def _rights(connection: Connection, role: str) -> _Rights:
    return _Rights(*connection.rows(_BEYOND, (role,))[0])


def _told(rights: _Rights) -> list[str]:
    told = ["make temporary tables"] if rights.temporary else []
    told += ["create schemas"] if rights.create else []
    return told + [f"create tables in schema {schema!a}" for schema in rights.schemas]


@contextlib.contextmanager
def _telling(what: str) -> Generator[None, None, None]:
    """Say ``what`` has failed where the server's answer means something special to an administrator."""
    try:
        yield
    except AdminError:
        raise
    except StoreError as error:
        code, said = getattr(error.__cause__, "sqlstate", None), " ".join(str(error.__cause__).split())
        if code == _NO_RIGHTS:
            raise AdminError(
                f"{what}: {said}; the login must be a superuser, or have CREATEROLE and own the database"
            ) from error
        if code in _EXISTS:
            raise AdminError(f"{what}: somebody else makes it at this moment") from error
        if code in _GONE:
            raise AdminError(f"{what}: somebody else removes it at this moment") from error
        if code == _IN_USE:
            raise AdminError(
                f"{what}, but its role cannot log in any more: {said}; drop what depends on it, then remove it again"
            ) from error
        raise
