"""What callers ask of an engine: submit, wait, look, command, fork."""
