"""Driving executions: from what happened to an item, from what was committed to running bodies."""
