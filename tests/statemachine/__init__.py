"""The state machine: Hypothesis drives the public API, and a naive model says what must come of it.

`machine` has the rules, one for each thing that a user or fate can do; `model` what design says that follows, with
nothing taken from the engine; `reality` the runners, the client and the database; `compare` holds the two against
each other after every step. `differential` has two more comparisons, of the two databases with one another.
"""
