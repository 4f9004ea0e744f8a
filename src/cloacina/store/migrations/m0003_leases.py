"""Schema version 3: leases, which on PostgreSQL are rows; on SQLite they are files, and nothing changes.

Both tables that every execution writes to get room in their pages, so that an attempt's end finds place beside its
start, and are cleaned sooner than PostgreSQL would by itself.
"""

SQL = """
/*pg
CREATE TABLE leases (
    runner TEXT NOT NULL PRIMARY KEY,
    renewed INTEGER NOT NULL,
    expires INTEGER NOT NULL,
    locked INTEGER,
    given_up BOOLEAN NOT NULL
);

ALTER TABLE attempts SET (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05);
ALTER TABLE executions SET (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05);
*/
"""
