"""The open file: connections to it, what keeps others off, its log, and its errors."""
