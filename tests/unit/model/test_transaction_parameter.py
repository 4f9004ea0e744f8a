"""Which parameter of a body takes its transaction, and where no body may have one."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Optional

import pytest

from cloacina import transaction
from cloacina.engine.executors.roster import Roster
from cloacina.engine.registry import Registry
from cloacina.errors import RegistrationError, WorkflowError
from cloacina.model.context.context import Context
from cloacina.model.task import task
from cloacina.model.workflow import Workflow
from cloacina.transaction import BlockingTransaction, Transaction

if TYPE_CHECKING:
    from cloacina.transaction import Transaction as Unseen  # noqa: F401


class Other:
    class Transaction: ...


async def by_type(ctx: Context, t: Transaction) -> None: ...
async def by_place(ctx: Context, *, t: transaction.Transaction) -> None: ...
async def or_none(ctx: Context, t: Optional[Transaction] = None) -> None: ...  # noqa: UP045
async def by_name(ctx: Context, tx: Any) -> None: ...
async def of_both(ctx: Context, t: Transaction, tx: int = 3) -> None: ...
async def with_default(ctx: Context, tx: Any = None) -> None: ...
async def of_others(ctx: Context, t: Other.Transaction | None = None) -> None: ...
async def with_handle(ctx: Context, handle: Any, tx: Any) -> None: ...
async def none(ctx: Context) -> None: ...
def blocking(ctx: Context, t: BlockingTransaction) -> None: ...
def blocking_by_name(ctx: Context, tx: Any) -> None: ...


async def real(ctx: Context, t: Any) -> None: ...


real.__annotations__["t"] = Transaction


@pytest.mark.parametrize(
    ("fn", "name"),
    [
        (by_type, "t"),
        (by_place, "t"),
        (or_none, "t"),
        (real, "t"),
        (functools.partial(by_type), "t"),
        (of_both, "t"),
        (by_name, "tx"),
        (with_handle, "tx"),
        (blocking, "t"),
        (blocking_by_name, "tx"),
        (with_default, None),
        (of_others, None),
        (none, None),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_the_transaction_is_found(fn: Any, name: str | None) -> None:
    assert task(fn, id="it").transaction_parameter == name


async def wrong_kind(ctx: Context, t: BlockingTransaction) -> None: ...
def wrong_kind_too(ctx: Context, t: Transaction) -> None: ...
async def two(ctx: Context, a: Transaction, b: Transaction) -> None: ...
async def first(t: Transaction) -> None: ...
async def by_position(ctx: Context, t: Transaction, /) -> None: ...


@pytest.mark.parametrize(
    ("fn", "said"),
    [
        (wrong_kind, "a def body a BlockingTransaction"),
        (wrong_kind_too, "an async def body takes a Transaction"),
        (two, "only one"),
        (first, "the context comes first"),
        (by_position, "positional-only"),
    ],
)
def test_what_cannot_be_given_is_refused(fn: Any, said: str) -> None:
    with pytest.raises(WorkflowError, match=said):
        task(fn)


@pytest.mark.parametrize("fn", [by_type, blocking])
def test_only_a_database_that_has_transactions_takes_the_workflow(fn: Any) -> None:
    workflow, registry = Workflow("w", [task(fn, id="it")]), Registry()
    with pytest.raises(RegistrationError, match=r"workflow 'w', task 'it': .*'t'.* only PostgreSQL"):
        registry.add(workflow)
    registry.transactions = True
    assert registry.add(workflow)


def test_a_body_in_another_process_has_none() -> None:
    registry = Registry(Roster.of().routing)
    registry.transactions = True
    with pytest.raises(RegistrationError, match="the runner's process only"):
        registry.add(Workflow("w", [task(blocking, id="it", executor="process")]))
