"""Pure decisions: what runs, what is skipped, how it ends, what a task sees, when to try again."""
