"""The numbered migrations: the n-th leads from schema version n - 1 to n, and never changes once released."""

from cloacina.store.sqlite.migrations import m0001_first, m0002_completed, m0003_leases

APPLICATION_ID = 0x636C6F61
"""Marks a file as ours in SQLite's header ("cloa")."""

MIGRATIONS: tuple[str, ...] = (m0001_first.SQL, m0002_completed.SQL, m0003_leases.SQL)
