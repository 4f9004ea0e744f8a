"""The rare situations that a long run must have seen, or it did not look where it should."""

from collections import Counter

SITUATIONS: frozenset[str] = frozenset()


def missing(found: Counter[str]) -> list[str]:
    """The situations that never came about."""
    return sorted(name for name in SITUATIONS if not found[name])
