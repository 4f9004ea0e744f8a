"""The durable engine: commits, drives executions, runs bodies, holds leases, recovers the dead."""
