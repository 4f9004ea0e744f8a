"""The transactions of bodies on PostgreSQL: their sessions, and each transaction from its begin to its end."""
