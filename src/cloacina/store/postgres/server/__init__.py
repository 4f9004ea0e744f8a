"""The server: how it is reached, what its errors mean, and which of its settings are refused."""
