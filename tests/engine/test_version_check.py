"""The check of a code base against what is in flight: it reads, and tells what would become of everything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cloacina import versions
from cloacina.errors import RegistrationError, StoreError, ValidationError
from cloacina.model.context.context import Context
from cloacina.model.dag.outline import short
from cloacina.model.task import Task, task
from cloacina.model.workflow import Workflow
from cloacina.store import migrations
from cloacina.store.postgres import database
from cloacina.versions import check
from support.postgres.server import PostgresServer
from support.runners import MEMORY, Gate, runner_on, seen_outside


def workflow(name: str, gate: Gate, edition: int = 1, *more: Task, **options: Any) -> Workflow:
    async def first(ctx: Context) -> None:
        ctx["first"] = edition

    tasks = [task(first, id="first"), task(gate.pass_through, id="waits", dependencies=["first"])]
    return Workflow(name, [*tasks, *more], **options)


def changed(gate: Gate) -> Workflow:
    tasks = [task(gate.pass_through, id="first"), task(gate.pass_through, id="waits")]
    return Workflow("changed", tasks)


async def test_every_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "PAGE", 3)
    gate, path = Gate(), tmp_path / "c.db"
    names = ["same", "better", "changed", "pinned", "gone"]
    old = {name: workflow(name, gate) for name in names}
    async with runner_on(path, *old.values(), shutdown_grace=0, window=8) as runner:
        ids = {name: [(await runner.submit(name)).id for _ in range(2)] for name in names}
        await gate.reached(8)
        code = [
            old["same"],
            workflow("better", gate, 2),
            changed(gate),
            workflow("pinned", gate, 2, on_version="pin"),
            workflow("new", gate),
        ]
        before = {id: seen_outside(path, lambda store, id=id: store.execution(id)) for id in ids["changed"]}
        report = check(f"sqlite:///{path}", code)
        found = {one.workflow: one for one in report.findings}
        assert {name: (one.verdict, one.executions, one.refused) for name, one in found.items()} == {
            "same": ("same", 2, 0),
            "better": ("adopted", 2, 0),
            "changed": ("parked", 2, 2),
            "pinned": ("pinned", 2, 0),
            "gone": ("unknown", 2, 0),
        }
        assert all(one.version == old[name].version for name, one in found.items())
        assert [id for id, _ in found["changed"].reasons] == ids["changed"]
        assert "waits depends on nothing instead of first" in found["changed"].reasons[0][1]
        assert not report.ok
        assert f"changed {short(old['changed'].version)}: 2 in flight, 2 of them would be set aside" in str(
            report
        )
        assert before == {id: seen_outside(path, lambda store, id=id: store.execution(id)) for id in before}
    assert check(path, code).findings == report.findings, "a runner that stopped changes nothing"


async def test_all_is_well(tmp_path: Path) -> None:
    gate = Gate()
    async with runner_on(tmp_path / "c.db", workflow("w", gate), shutdown_grace=0) as runner:
        report = check(tmp_path / "c.db", [])
        assert report.ok and str(report) == "nothing is in flight"
        await runner.submit("w")
        await gate.reached()
        for edition in (1, 2):
            assert check(tmp_path / "c.db", [workflow("w", gate, edition)]).ok


async def test_only_some_would_be_set_aside(tmp_path: Path) -> None:
    gate = Gate()
    async with runner_on(tmp_path / "c.db", workflow("changed", gate), shutdown_grace=0, window=1) as runner:
        handle = await runner.submit("changed")
        await gate.reached()
        for _ in range(5):
            await runner.submit("changed")
        (found,) = check(tmp_path / "c.db", [changed(gate)]).findings
    assert (found.executions, found.refused, found.verdict) == (6, 1, "parked")
    assert [id for id, _ in found.reasons] == [handle.id]


@pytest.mark.parametrize("given", ["w", 5, [5], ["w"]])
def test_what_are_no_workflows(tmp_path: Path, given: Any) -> None:
    with pytest.raises(ValidationError):
        check(tmp_path / "c.db", given)


def test_a_schema_that_is_not_there(postgres: PostgresServer, schema: str) -> None:
    with pytest.raises(ValidationError, match=rf"no database .*{schema}.*: a runner makes it"):
        check(postgres.url(), [], schema=schema)
    assert postgres.execute("SELECT FROM pg_namespace WHERE nspname = %s", schema) == []


@pytest.mark.sqlite_only("it is about files")
def test_places_without_a_database(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="in memory"):
        check(MEMORY, [])
    with pytest.raises(ValidationError, match=r"no database .*none\.db: a runner makes it"):
        check(tmp_path / "none.db", [])
    assert not (tmp_path / "none.db").exists()
    (tmp_path / "empty.db").touch()
    with pytest.raises(ValidationError, match="is empty: no runner"):
        check(tmp_path / "empty.db", [])


async def test_a_database_of_an_older_schema_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with runner_on(tmp_path / "c.db"):
        pass
    now = len(migrations.MIGRATIONS)
    for reads in (migrations, versions, database):
        monkeypatch.setattr(reads, "MIGRATIONS", (*migrations.MIGRATIONS[:now], "one more"))
    with pytest.raises(StoreError, match=f"has schema version {now}, and this .* reads {now + 1}: the first"):
        check(tmp_path / "c.db", [])


def test_two_versions_of_one_name(tmp_path: Path) -> None:
    gate = Gate()
    with pytest.raises(RegistrationError, match="'w' is there twice"):
        check(tmp_path / "c.db", [workflow("w", gate), workflow("w", gate, 2)])
