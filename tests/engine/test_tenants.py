"""Tenants in use: one process drives several, none sees another, and a removed one is gone even under load."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from cloacina import Client, Context, Runner, Settings, Workflow
from cloacina.errors import AdminError, ExecutionNotFound, StoreBusy, StoreUnavailable, UnknownWorkflow
from cloacina.store.location import parse_location
from cloacina.tenants import BlockingDatabaseAdmin, TenantConfig, TenantCredentials
from support.clock import until
from support.postgres.server import PostgresServer
from support.script import Script
from support.tenants import database_of, tenants_on

pytestmark = pytest.mark.sqlite_only("each test makes the databases that it uses")

QUICK = Settings(shutdown_grace=0.1)


@pytest.fixture(params=["folder", "server"])
def admin(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[BlockingDatabaseAdmin]:
    if request.param == "folder":
        yield BlockingDatabaseAdmin(tmp_path)
        return
    with tenants_on(request.getfixturevalue("postgres")) as administrator:
        yield administrator


@pytest.fixture
def server_admin(postgres: PostgresServer) -> Iterator[BlockingDatabaseAdmin]:
    with tenants_on(postgres) as administrator:
        yield administrator


def runner_of(tenant: TenantCredentials, *workflows: Workflow) -> Runner:
    return Runner(tenant.url, schema=tenant.schema, workflows=workflows, settings=QUICK)


def client_of(tenant: TenantCredentials) -> Client:
    return Client(tenant.url, schema=tenant.schema, settings=QUICK)


def note() -> Workflow:
    workflow = Workflow("note")

    @workflow.task(retry=False)
    def write(ctx: Context) -> None:
        ctx["written"] = ctx["text"]
        if ctx["fail"]:
            raise ValueError(f"about {ctx['text']}")

    return workflow


async def test_one_process_drives_several_and_none_sees_another(
    admin: BlockingDatabaseAdmin, caplog: pytest.LogCaptureFixture
) -> None:
    names = ["acme", "bravo", "charlie"]
    tenants = [admin.create_tenant(TenantConfig(name)) for name in names]
    runners = [runner_of(tenant, note()) for tenant in tenants]
    caplog.set_level(logging.DEBUG)
    for runner in runners:
        await runner.start()
    ids: dict[str, list[str]] = {}
    told: dict[str, str] = {}
    for name, runner in zip(names, runners, strict=True):
        inputs = [{"text": f"canary-{name}", "fail": fail} for fail in (False, True)]
        tags = [f"tag-{name}"]
        made = [await runner.submit("note", one, key=f"same-{one['fail']}", tags=tags) for one in inputs]
        ended = [await handle.result() for handle in made]
        ids[name] = [result.id for result in ended]
        told[name] = repr([*ended, *(result.context.to_dict() for result in ended)])
    for name, tenant, runner in zip(names, tenants, runners, strict=True):
        others = [other for other in names if other != name]
        listed = await runner.list()
        told[name] += repr(listed)
        assert {one.id for one in listed} == {*ids[name]}
        for id in ids[others[0]]:
            with pytest.raises(ExecutionNotFound) as caught:
                await runner.result(id)
            told[name] += str(caught.value)
        async with client_of(tenant) as client:
            for ask in (client.cancel, client.pause, client.explain):
                with pytest.raises(ExecutionNotFound) as caught:
                    await ask(ids[others[1]][0])
                told[name] += str(caught.value)
            with pytest.raises(UnknownWorkflow) as unknown:
                await client.submit("missing")
            told[name] += str(unknown.value)
        assert f"canary-{name}" in told[name]
        assert not re.search(f"(canary|tag)-({'|'.join(others)})", told[name])
    for runner in runners:
        await runner.shutdown()
    assert not [tenant for tenant in tenants if tenant.password and tenant.password in caplog.text]


async def test_one_that_was_removed_and_made_again_has_nothing_of_the_old(
    admin: BlockingDatabaseAdmin,
) -> None:
    old = admin.create_tenant(TenantConfig("acme"))
    async with runner_of(old, note()) as runner:
        kept = await runner.execute("note", {"text": "canary", "fail": False}, key="once")
    admin.remove_tenant("acme")
    assert admin.list_tenants() == []
    new = admin.create_tenant(TenantConfig("acme"))
    async with runner_of(new, note()) as runner:
        assert await runner.list() == []
        again = await runner.execute("note", {"text": "new", "fail": False}, key="once")
        assert again.id != kept.id
        with pytest.raises(ExecutionNotFound):
            await runner.result(kept.id)


async def test_a_login_without_its_schema_makes_none(
    postgres: PostgresServer, server_admin: BlockingDatabaseAdmin
) -> None:
    tenant, other = (server_admin.create_tenant(TenantConfig(name)) for name in ("acme", "other"))
    before = postgres.execute("SELECT nspname FROM pg_namespace", database=database_of(server_admin))
    for schema, says in (
        ("missing", "has no such schema.* create the tenant"),
        (None, "has no such schema.* create the tenant"),
        (other.schema, "refused the access.*permission denied for schema other"),
    ):
        for opened in (
            Runner(tenant.url, schema=schema, workflows=[note()], settings=QUICK),
            Client(tenant.url, schema=schema, settings=QUICK),
        ):
            with pytest.raises(Exception, match=says) as caught:
                await opened.start()
            assert "\n" not in str(caught.value)
            assert str(tenant.password) not in str(caught.value)
    assert postgres.execute("SELECT nspname FROM pg_namespace", database=database_of(server_admin)) == before


async def test_tables_of_an_older_version_ask_for_the_administrator(
    postgres: PostgresServer, server_admin: BlockingDatabaseAdmin
) -> None:
    tenant = server_admin.create_tenant(TenantConfig("acme"))
    postgres.execute(
        "UPDATE acme.meta SET value = '1' WHERE key = 'schema_version'", database=database_of(server_admin)
    )
    with pytest.raises(StoreUnavailable, match="schema version 1.*may not change them.*administrator"):
        await runner_of(tenant, note()).start()


async def test_a_tenant_is_removed_while_it_works(
    server_admin: BlockingDatabaseAdmin, caplog: pytest.LogCaptureFixture
) -> None:
    busy = Workflow("busy")
    done = 0

    @busy.task(retry=False)
    async def work(ctx: Context) -> None:
        nonlocal done
        await asyncio.sleep(0)
        done += 1

    tenant, other = (server_admin.create_tenant(TenantConfig(name)) for name in ("acme", "other"))
    async with runner_of(other, note()) as spared:
        runner = runner_of(tenant, busy)
        await runner.start()
        await runner.submit_many("busy", [{} for _ in range(2_000)])
        await until(lambda: done > 20, "work has begun")
        await asyncio.to_thread(server_admin.remove_tenant, "acme")
        new = await asyncio.to_thread(server_admin.create_tenant, TenantConfig("acme"))
        with psycopg.connect(new.url) as session:
            for table in ("executions", "attempts", "runners", "events", "workflow_versions"):
                assert session.execute(f"SELECT count(*) FROM acme.{table}").fetchone() == (0,)  # type: ignore[arg-type]
        assert (await spared.execute("note", {"text": "on", "fail": False})).context["written"] == "on"
        await asyncio.wait_for(runner.shutdown(), 20)
        with psycopg.connect(new.url) as session:
            assert session.execute("SELECT count(*) FROM acme.executions").fetchone() == (0,)
    assert str(tenant.password) not in caplog.text


async def test_a_schema_that_vanishes_is_an_outage_and_not_another_tenants(
    postgres: PostgresServer, server_admin: BlockingDatabaseAdmin, caplog: pytest.LogCaptureFixture
) -> None:
    tenant, other = (server_admin.create_tenant(TenantConfig(name)) for name in ("acme", "other"))
    runner = runner_of(tenant, note())
    await runner.start()
    await asyncio.to_thread(
        lambda: postgres.execute("DROP SCHEMA acme CASCADE", database=database_of(server_admin))
    )
    submitted = asyncio.ensure_future(runner.submit("note", {"text": "canary", "fail": False}))
    await until(lambda: "has no such schema or table" in caplog.text, "the engine says what is missing")
    await runner.shutdown()
    with pytest.raises(Exception, match=r"shut down|no such schema"):
        await submitted
    with psycopg.connect(other.url) as session:
        assert session.execute("SELECT count(*) FROM other.executions").fetchone() == (0,)


# Files.


async def test_a_file_is_its_owners_alone_and_stays_while_it_is_used(tmp_path: Path) -> None:
    admin = BlockingDatabaseAdmin(f"sqlite:///{tmp_path}/")
    tenant = admin.create_tenant(TenantConfig("acme"))
    path = tmp_path / "acme.db"
    assert (tenant.url, tenant.schema, tenant.username, tenant.password) == (
        f"sqlite:///{path}",
        None,
        None,
        None,
    )
    async with runner_of(tenant, note()) as runner:
        await runner.execute("note", {"text": "x", "fail": False})
        for file in tmp_path.rglob("*"):
            assert file.stat().st_mode & 0o077 == 0, file
        with pytest.raises(StoreBusy, match="in use"):
            admin.remove_tenant("acme")
    async with client_of(tenant) as client:
        with pytest.raises(StoreBusy, match="open in another program"):
            admin.remove_tenant("acme")
        assert len(await client.list()) == 1
    location = parse_location(tenant.url)
    assert location.payloads is not None and location.runners is not None
    location.payloads.mkdir()
    (location.payloads / "file").touch()
    admin.remove_tenant("acme")
    assert [*tmp_path.iterdir()] == []


def test_a_file_that_another_process_has_open_stays(tmp_path: Path, script: Script) -> None:
    BlockingDatabaseAdmin(tmp_path).create_tenant(TenantConfig("acme"))
    ended = script(f"""
        import subprocess, sys
        from cloacina import BlockingRunner
        from cloacina.errors import StoreBusy
        from cloacina.tenants import BlockingDatabaseAdmin
        if len(sys.argv) > 1:
            try:
                BlockingDatabaseAdmin({str(tmp_path)!r}).remove_tenant("acme")
            except StoreBusy as error:
                print(error)
        else:
            with BlockingRunner({str(tmp_path / "acme.db")!r}):
                print(subprocess.check_output([sys.executable, sys.argv[0], "remove"], text=True))
    """)
    assert "is in use: shut its runners down first" in ended.stdout, ended.stderr


def test_what_is_in_the_folder_is_listed_or_left_alone(tmp_path: Path) -> None:
    admin = BlockingDatabaseAdmin(tmp_path)
    for name in ("b", "a"):
        admin.create_tenant(TenantConfig(name))
    outside = tmp_path / "elsewhere"
    outside.write_text("precious")
    (tmp_path / "link.db").symlink_to(outside)
    (tmp_path / "Upper.db").touch()
    (tmp_path / "folder.db").mkdir()
    (tmp_path / "gone.db-wal").touch()
    assert admin.list_tenants() == admin.update_tenants() == ["a", "b", "link"]
    for name in ("a", "link", "folder", "gone"):
        with pytest.raises(AdminError, match="was not created"):
            admin.create_tenant(TenantConfig(name))
    with pytest.raises(AdminError, match="is a link"):
        admin.remove_tenant("link")
    with pytest.raises(AdminError, match="there is no tenant"):
        admin.remove_tenant("missing")
    admin.remove_tenant("gone")
    assert outside.read_text() == "precious"
    assert admin.list_tenants() == ["a", "b", "link"]


@pytest.mark.parametrize("what", ["a file", "nothing"])
def test_what_is_no_folder_is_refused(tmp_path: Path, what: str) -> None:
    path = tmp_path / "place"
    if what == "a file":
        path.touch()
    admin = BlockingDatabaseAdmin(path)
    calls: list[Any] = [
        lambda: admin.create_tenant(TenantConfig("acme")),
        lambda: admin.remove_tenant("acme"),
        admin.list_tenants,
    ]
    for call in calls:
        with pytest.raises(ValueError, match="is no folder"):
            call()


def test_a_password_is_for_a_server(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no password"):
        BlockingDatabaseAdmin(tmp_path).create_tenant(TenantConfig("acme", password="canary-1234567890"))
    assert [*tmp_path.iterdir()] == []


def test_another_programs_file_stays(tmp_path: Path) -> None:
    import apsw

    connection = apsw.Connection(str(tmp_path / "app.db"))
    connection.execute("CREATE TABLE precious (x)")
    connection.close()
    with pytest.raises(ValueError, match="belongs to another program"):
        BlockingDatabaseAdmin(tmp_path).remove_tenant("app")
    assert [path.name for path in tmp_path.iterdir()] == ["app.db"]


def test_a_removal_of_a_file_that_ended_half_way_is_completed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin = BlockingDatabaseAdmin(tmp_path)
    admin.create_tenant(TenantConfig("acme"))
    (tmp_path / "acme.db-payloads").mkdir()
    with monkeypatch.context() as patch, pytest.raises(StoreUnavailable):
        patch.setattr(Path, "unlink", _fails)
        admin.remove_tenant("acme")
    assert admin.list_tenants() == ["acme"]
    admin.remove_tenant("acme")
    assert [path.name for path in tmp_path.iterdir()] == []


def _fails(*args: object, **options: object) -> None:
    raise OSError("the disk is away")
