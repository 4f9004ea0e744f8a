"""Leases, looks and the doorbell on PostgreSQL, over one session of their own."""
