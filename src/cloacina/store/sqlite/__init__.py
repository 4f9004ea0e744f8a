"""The store on one SQLite file, or on a database in memory."""
