"""The store on PostgreSQL: one schema a tenant, the same tables and the same promises as on SQLite."""
