"""The numbered migrations: the n-th leads from schema version n - 1 to n, and never changes once released.

Both databases run the same texts: they are written as SQLite reads them, and PostgreSQL's are rendered from them.
"""

from cloacina.errors import StoreError
from cloacina.store.migrations import m0001_first, m0002_completed, m0003_leases

MIGRATIONS: tuple[str, ...] = (m0001_first.SQL, m0002_completed.SQL, m0003_leases.SQL)


def outdated(location: object, version: int) -> StoreError:
    """The error of somebody who only reads, about a database that was not brought to this version yet."""
    return StoreError(
        f"database {location} has schema version {version}, and this version of cloacina reads {len(MIGRATIONS)}: the "
        "first runner of this version brings it there"
    )
