"""A real PostgreSQL for the tests, and what hurts it: servers, a proxy with faults, PgBouncer, fixtures."""
