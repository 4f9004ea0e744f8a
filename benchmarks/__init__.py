"""Benchmarks: one file per question, run by hand with ``python -m benchmarks``; see README.md."""
