"""What a workflow's definition is checked with; nothing here is for users."""
