"""The storage of an engine: its database, and the threads that serve it."""
