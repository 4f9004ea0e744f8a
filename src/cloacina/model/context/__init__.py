"""What a body is given: its context, typed keys and inputs, a handle."""
