"""Where a task runs: its namespace, and the rules that match it."""
