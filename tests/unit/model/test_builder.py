"""The builder: a workflow from a ``with`` block, or none at all."""

from __future__ import annotations

from functools import partial

import pytest

from cloacina.errors import WorkflowError
from cloacina.model.builder import WorkflowBuilder
from cloacina.model.context.context import Context
from cloacina.model.task import task


def extract(ctx: Context) -> None: ...
def load(ctx: Context, table: str) -> None: ...


def test_a_workflow_made_by_a_loop() -> None:
    with WorkflowBuilder("etl", description="By table.", tags=["nightly"]) as builder:
        builder.add(task(extract))
        for table in ("users", "orders"):
            builder.add(partial(load, table=table), id=f"load_{table}", dependencies=["extract"])

        @builder.task(dependencies=["load_users", "load_orders"])
        def report(ctx: Context) -> None: ...

        builder.task(extract, id="again", dependencies=[report])

    workflow = builder.workflow
    assert workflow.frozen
    assert (workflow.name, workflow.description, workflow.tags) == ("etl", "By table.", ("nightly",))
    assert workflow.dag.levels == (("extract",), ("load_users", "load_orders"), ("report",), ("again",))


def test_a_block_that_raises_leaves_no_workflow() -> None:
    builder = WorkflowBuilder("etl")
    with pytest.raises(ZeroDivisionError), builder:
        builder.add(extract)
        raise ZeroDivisionError
    with pytest.raises(WorkflowError, match="workflow 'etl': its with block raised: mend that error"):
        _ = builder.workflow


def test_what_is_wrong_is_told_where_the_block_ends() -> None:
    builder = WorkflowBuilder("etl")
    with pytest.raises(WorkflowError, match="workflow 'etl', task 'extract': it depends on 'x'"), builder:
        builder.add(extract, dependencies=["x"])
    with pytest.raises(WorkflowError, match="its with block raised"):
        _ = builder.workflow


def test_an_empty_block_is_refused() -> None:
    with pytest.raises(WorkflowError, match="workflow 'etl' has no task"), WorkflowBuilder("etl"):
        pass


def test_the_block_bounds_what_may_be_done() -> None:
    builder = WorkflowBuilder("etl")
    with pytest.raises(WorkflowError, match="it has not begun"):
        _ = builder.workflow
    with pytest.raises(WorkflowError, match="inside the builder's with block only"):
        builder.add(extract)
    with builder:
        builder.add(extract)
        with pytest.raises(WorkflowError, match=r"read builder\.workflow after the with block"):
            _ = builder.workflow
    with pytest.raises(WorkflowError, match="inside the builder's with block only"):
        builder.task(extract, id="more")
    with pytest.raises(WorkflowError, match="make another builder"), builder:
        pass
    assert builder.workflow.dag.ids == ("extract",)
