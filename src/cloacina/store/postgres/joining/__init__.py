"""Joining: storing executions through a connection of the caller's, within the transaction that is open there."""
