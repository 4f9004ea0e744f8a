"""Payloads that somebody changed, and files that are missing: that execution suffers, visibly, and no other."""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path
from typing import Any

import pytest

from cloacina.backup import restore
from cloacina.errors import PayloadError
from cloacina.model.context.context import Context
from cloacina.model.workflow import Workflow
from cloacina.store.payloads import Offload, Payloads, folder
from support.clock import HandClock, until
from support.payloads import (
    CANARY,
    COMPLETED,
    PARKED,
    everything,
    one,
    opened,
    payload_rows,
    rests,
    story,
    waiting,
)
from support.runners import Gate, by_hand, crashing, runner_on

# Tampering.


async def stored_one(path: Path) -> tuple[str, str]:
    """The id of a completed execution, and its result as it is stored."""
    async with runner_on(path, payloads=everything()) as runner:
        result = await runner.execute(one(opened()), {"a": CANARY})
    return result.id, payload_rows(path)["executions.result"][-1]


async def test_any_change_of_a_result_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "c.db"
    id, stored = await stored_one(path)
    async with runner_on(path, payloads=everything()) as runner:
        for position in range(0, len(stored), 7):
            letter = "A" if stored[position] != "A" else "B"
            changed = stored[:position] + letter + stored[position + 1 :]
            by_hand(path, "UPDATE executions SET result = ? WHERE id = ?", changed, id)
            with pytest.raises(PayloadError, match=f"the result of execution {id} cannot be read"):
                await runner.get(id)
        assert (await runner.execute(one(opened()))).status is COMPLETED
        by_hand(path, "UPDATE executions SET result = ? WHERE id = ?", stored, id)
        assert (await runner.get(id)).context["a"] == CANARY


@pytest.mark.parametrize("column", ["input", "result"])
async def test_payloads_of_another_row_are_refused(tmp_path: Path, column: str) -> None:
    path = tmp_path / "c.db"
    (mine, _), (other, _) = await stored_one(path), await stored_one(path)
    swap = f"UPDATE executions SET result = (SELECT {column} FROM executions WHERE id = ?) WHERE id = ?"
    by_hand(path, swap, mine if column == "input" else other, mine)
    async with runner_on(path, payloads=everything()) as runner:
        with pytest.raises(PayloadError, match="moved from elsewhere"):
            await runner.get(mine)
        assert (await runner.get(other)).context["a"] == CANARY


async def test_a_payload_of_another_database_is_refused(tmp_path: Path) -> None:
    id, _ = await stored_one(tmp_path / "a.db")
    other, text = await stored_one(tmp_path / "b.db")
    by_hand(tmp_path / "a.db", "UPDATE executions SET id = ?, result = ? WHERE id = ?", other, text, id)
    async with runner_on(tmp_path / "a.db", payloads=everything()) as runner:
        with pytest.raises(PayloadError, match="moved from elsewhere"):
            await runner.get(other)


async def test_a_change_that_is_claimed_harms_no_other(tmp_path: Path) -> None:
    path, workflow = tmp_path / "c.db", one(opened())
    ids = await waiting(path, workflow, *({"n": n} for n in range(5)), payloads=everything())
    by_hand(path, "UPDATE executions SET input = replace(input, 'A', 'B') || 'AAAA' WHERE id = ?", ids[2])
    async with runner_on(path, workflow, payloads=everything()) as runner:
        for n in (0, 1, 3, 4):
            assert (await runner.result(ids[n], timeout=20)).context["n"] == n
        assert await rests(runner, ids[2]) is PARKED


async def test_a_change_of_a_delta_is_named(tmp_path: Path) -> None:
    path, gate, workflow = tmp_path / "c.db", Gate(), Workflow("two")

    @workflow.task
    async def first(ctx: Context) -> None:
        ctx["a"] = CANARY

    workflow.add(gate.pass_through, id="second", dependencies=[first])
    async with runner_on(path, workflow, payloads=everything(), shutdown_grace=0) as runner:
        handle = await runner.submit(workflow)
        await gate.reached()
    by_hand(path, "UPDATE attempts SET delta = '!e:AAAA' WHERE task = 'first'")
    gate.open()
    async with runner_on(path, workflow, payloads=everything()) as runner:
        assert await rests(runner, handle.id) is PARKED
        why = f"the delta of attempt 1 of task 'first' of execution {handle.id} cannot be read: it is damaged"
        assert why in (await runner.explain(handle.id)).reason


# Files.


async def test_a_full_disk_delays_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path, workflow, write = tmp_path / "c.db", one(opened()), folder._write
    refused: list[Path] = []

    def full(file: Path, data: bytes) -> None:
        refused.append(file)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    async with runner_on(path, workflow, payloads=everything()) as runner:
        monkeypatch.setattr(folder, "_write", full)
        given = {"a": os.urandom(3_000).hex()}
        execution = asyncio.ensure_future(runner.execute(workflow, given))
        await until(lambda: len(refused) > 1, "a second try")
        assert not execution.done()
        monkeypatch.setattr(folder, "_write", write)
        assert (await execution).context.to_dict() == given
    assert "No space left on device" in caplog.text


async def test_a_crash_between_a_file_and_its_row_leaves_a_stray(tmp_path: Path) -> None:
    path, workflow, folders = tmp_path / "c.db", one(opened()), tmp_path / "c.db-payloads"
    inner: list[Any] = []
    async with crashing(runner_on(path, workflow, payloads=everything())) as runner:
        thread: Any = runner._engine.means.writer
        inner.append(thread._store._inner)
        thread._store._inner = Dying()
        submitted = asyncio.ensure_future(runner.submit(workflow, {"a": os.urandom(3_000).hex()}))
        await until(lambda: folders.is_dir() and list(folders.rglob("[0-9a-f]*")), "the file")
        submitted.cancel()
        thread._store._inner = inner[0]
    (stray,) = folders.iterdir()
    async with runner_on(path, workflow, payloads=everything()) as runner:
        assert await runner.list() == []
        kept = await runner.execute(workflow, {"a": os.urandom(3_000).hex()})
        writer = runner._engine.means.writer
        await writer.run(lambda store: store.forget_runners(0))
        assert stray.exists()
        await writer.run(lambda store: store.forget_runners(10**16))
        assert [home.name for home in folders.iterdir()] == [kept.id]
        assert (await runner.get(kept.id)).context.to_dict() == kept.context.to_dict()


class Dying:
    """A store that does not come back."""

    def __getattr__(self, name: str) -> Any:
        def gone(*args: Any) -> Any:
            raise asyncio.CancelledError

        return gone


async def test_a_fork_keeps_its_files_when_the_old_execution_is_pruned(tmp_path: Path) -> None:
    path, workflow, folders = tmp_path / "c.db", story(), tmp_path / "c.db-payloads"
    given = {"text": os.urandom(3_000).hex(), "times": 1, "fails": False}
    async with runner_on(path, workflow, payloads=everything()) as runner:
        old = await runner.execute(workflow, given)
        new = await (await runner.fork(old.id, from_task="end")).result()
        assert {home.name for home in folders.iterdir()} == {old.id, new.id}
        await runner._engine.means.writer.run(lambda store: store.prune([old.id]))
        assert {home.name for home in folders.iterdir()} == {new.id}
        assert (await runner.get(new.id)).context.to_dict() == old.context.to_dict()
        again = await (await runner.fork(new.id)).result()
        assert again.context.to_dict() == old.context.to_dict()


async def test_files_go_with_their_executions(tmp_path: Path) -> None:
    path, clock, folders = tmp_path / "c.db", HandClock(), tmp_path / "c.db-payloads"
    async with runner_on(path, payloads=everything(), clock=clock, keep_completed_days=1.0) as runner:
        await runner.execute(one(opened()), {"a": os.urandom(3_000).hex()})
        clock.advance(2 * 86_400)
        young = await runner.execute(one(opened()), {"a": os.urandom(3_000).hex()})
        await runner.prune()
        assert [home.name for home in folders.iterdir()] == [young.id]


@pytest.mark.sqlite_only("a backup is a copy of the database's file")
@pytest.mark.parametrize("encrypted", [True, False])
async def test_a_backup_has_the_files_and_a_restore_brings_them_back(tmp_path: Path, encrypted: bool) -> None:
    """Also by a runner without codecs; a backup is the same database, so its payloads are in their place."""
    path, copy, given = tmp_path / "c.db", tmp_path / "copy.db", {"a": os.urandom(3_000).hex()}
    payloads = everything() if encrypted else Payloads([Offload(over=2_000)])
    async with runner_on(path, payloads=payloads) as runner:
        result = await runner.execute(one(opened()), given)
        await runner.backup(copy)
    async with runner_on(path) as plain:
        await plain.backup(copy, overwrite=True)
    async with runner_on(copy, payloads=payloads) as runner:
        assert (await runner.get(result.id)).context.to_dict() == given
    for file in (tmp_path / "c.db-payloads" / result.id).iterdir():
        file.write_bytes(b"damaged")
    restore(copy, path)
    async with runner_on(path, payloads=payloads) as runner:
        assert (await runner.get(result.id)).context.to_dict() == given
