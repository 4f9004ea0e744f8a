"""The pytest plugin: runners and databases for tests, as fixtures. pytest loads it where cloacina is installed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from cloacina.testing import BlockingTestRunner, TestRunner

asynchronous: Any = pytest.fixture
"""What makes an asynchronous fixture; those of anyio's plugin are declared as any other."""
if find_spec("pytest_asyncio") is not None:
    import pytest_asyncio

    asynchronous = pytest_asyncio.fixture


@asynchronous  # type: ignore[untyped-decorator]
async def cloacina_runner() -> AsyncIterator[TestRunner]:
    """A `TestRunner` on a database in memory, for ``async def`` tests."""
    from cloacina.testing import TestRunner

    async with TestRunner() as runner:
        yield runner


@pytest.fixture
def cloacina_blocking_runner() -> Iterator[BlockingTestRunner]:
    """A `BlockingTestRunner` on a database in memory, for ``def`` tests."""
    from cloacina.testing import BlockingTestRunner

    with BlockingTestRunner() as runner:
        yield runner


@pytest.fixture
def cloacina_database(tmp_path: Path) -> str:
    """The URL of an SQLite file of this test's own, which does not exist yet."""
    return f"sqlite:///{tmp_path / 'cloacina.db'}"
