"""Mutants: the engine with one bug each, which the tests that run every day must catch.

Each `Mutant` is a small change of the source, as somebody might really make it. `python -m mutants`, from the folder
`tests`, shows which check catches each of them: a table of seeds that the simulator needs, and of tests for what it
cannot see (a disk, the files of a database, a server).
"""
