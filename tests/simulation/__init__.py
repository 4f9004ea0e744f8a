"""The simulator: the real engine on virtual time, with seeded scheduling and seeded faults.

Several runners, each in a simulated process, share one SQLite database in memory. Everything that the engine
asks its machine for is simulated (`machine`): time, chance, threads, and who else is there; the deciding code, the
committer, leases, recovery and the SQL are the real ones. A seed makes a `plan`; a `play` of a plan has a trace, and
the same plan has the same trace, always. The `referee` checks the invariants at every commit.
"""
