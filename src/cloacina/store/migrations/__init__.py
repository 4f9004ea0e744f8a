"""The numbered migrations: the n-th leads from schema version n - 1 to n, and never changes once released.

Both databases run the same texts: they are written as SQLite reads them, and PostgreSQL's are rendered from them.
"""

from cloacina.store.migrations import m0001_first, m0002_completed, m0003_leases

MIGRATIONS: tuple[str, ...] = (m0001_first.SQL, m0002_completed.SQL, m0003_leases.SQL)
