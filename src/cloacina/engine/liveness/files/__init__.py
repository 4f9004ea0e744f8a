"""Leases, looks and the doorbell on SQLite, where they are files."""
