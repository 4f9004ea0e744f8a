"""What keeps a database in order: old executions, other versions, what could not be read."""
