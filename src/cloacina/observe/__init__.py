"""What an operator sees: logs now, metrics and traces later."""
