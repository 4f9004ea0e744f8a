"""The statements that both databases run as they are: one module a noun, one text for each statement.

They are written as SQLite reads them, within what PostgreSQL understands too; its connection renders each text once
(`cloacina.store.postgres.render`). So these hold for every text here:

* Parameters are numbered: ``?1``. One that stands in a select list says its type: ``CAST(?2 AS BIGINT)``.
* Any number of rows travels as one JSON text, an array of arrays, and is read as ``jsonb_each(?1) AS sent`` with
  ``sent.value ->> 0``. Every value so read is a text on PostgreSQL: a number is ``CAST(sent.value ->> 1 AS BIGINT)``.
* A join whose order matters to SQLite is a ``CROSS JOIN`` with its condition under ``WHERE``. ``INDEXED BY`` repeats
  what the index is for and is for SQLite alone; PostgreSQL never sees it.
* What only PostgreSQL needs stands in a comment: ``/*pg FOR UPDATE*/``. Nothing refers to ``rowid``, to a bare column
  beside ``max()``, or to another function that one of the two does not have.

SQLite lets one transaction write at a time, from its beginning. PostgreSQL lets many, at READ COMMITTED: each
statement sees what others have committed before it. So a transaction first locks the rows that decide what it may do,
and reads them then or later, never before. All lock in one order, against deadlocks: the row of ``meta`` (see
`versions`), the row of a runner, executions in the order of their ids, and then what belongs to these.
"""
