"""The crash campaign: real processes on real databases that are killed, frozen, cut off and counted.

`python -m campaign` from the folder ``tests`` runs it, and so does ``./dev campaign``. Its stages, programs, faults and
its checker are those of the acceptance tests, in ``acceptance.support``.
"""
