"""Copies of a database, and looking at one without changing it."""
