"""Transactions of bodies on SQLite: refused before anything is stored."""

from __future__ import annotations

import pytest

from cloacina.errors import RegistrationError
from cloacina.model.context.context import Context
from cloacina.model.task import task
from cloacina.model.workflow import Workflow
from cloacina.transaction import Transaction
from support.runners import in_memory

pytestmark = pytest.mark.sqlite_only("PostgreSQL has transactions for bodies")


async def write(ctx: Context, tx: Transaction) -> None: ...


async def test_a_runner_refuses_the_workflow() -> None:
    workflow = Workflow("writing", [task(write)])
    with pytest.raises(RegistrationError, match="an SQLite file belongs to the engine"):
        await in_memory(workflow).start()
    async with in_memory() as runner:
        for refused in (runner.register(workflow), runner.submit(workflow)):
            with pytest.raises(RegistrationError, match="an SQLite file belongs to the engine"):
                await refused
        assert await runner.list() == []
