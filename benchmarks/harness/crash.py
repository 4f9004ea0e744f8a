"""A crash: a process that kills itself half way through, and one that takes over."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Sequence

DONE = "done"
"""What the process that takes over prints once everything has ended well."""


def seconds_to_recover(run: Sequence[str], resume: Sequence[str]) -> float:
    """Start ``run``, which must die by ``kill -9``; then time ``resume`` from its start to its word `DONE`."""
    died = subprocess.run(run, stdout=subprocess.DEVNULL, timeout=600)
    if died.returncode != -signal.SIGKILL:
        raise AssertionError(f"the first process ended with {died.returncode} instead of being killed")
    begin = time.perf_counter()
    with subprocess.Popen(resume, stdout=subprocess.PIPE, text=True) as taking_over:
        assert taking_over.stdout is not None
        for line in taking_over.stdout:
            if line.strip() == DONE:
                return time.perf_counter() - begin
    raise AssertionError(f"the second process ended with {taking_over.returncode} before all was done")
