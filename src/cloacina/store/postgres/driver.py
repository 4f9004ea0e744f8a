"""The driver, which is an extra: what needs it is imported when a server is to be reached, and not before."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from cloacina.errors import MissingExtra


@contextmanager
def driver_needed() -> Generator[None, None, None]:
    """Around the imports of what needs the driver. Raises `MissingExtra` if it is not installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name != "asyncpg":
            raise
        raise MissingExtra(
            "PostgreSQL needs the package asyncpg, which is not installed: pip install 'cloacina[postgres]'"
        ) from error
