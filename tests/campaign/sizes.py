"""Sizes: how much of everything a campaign does."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Counts, for each database."""

    kills: int = 3_000
    """Processes that are killed by ``kill -9``."""
    recoveries: int = 300
    """Runners that are killed while others stand by, to see how long these take."""
    zombies: int = 500
    """Runners that are frozen for longer than their lease."""
    images: int = 10_000
    """Power cuts (SQLite)."""
    played_on: int = 200
    """After how many of them the work goes on to its end."""
    boundaries: int = 0
    """Commits of each scenario, chosen by lot, at which to kill; 0 for every one."""
    calls: int = 1
    """Kill, or fail, at every so-manieth system call of a kind."""
    fills: int = 50
    """Times that the disk is full (SQLite)."""
    restarts: int = 100
    """Fast restarts, immediate ones, and killed sessions, of each so many (PostgreSQL)."""


FULL = Sizes()
QUICK = Sizes(
    kills=40, recoveries=6, zombies=8, images=120, played_on=6, boundaries=2, calls=40, fills=2, restarts=1
)
"""What continuous integration does: about a minute for both databases."""
