"""Payloads through a whole runner: encoded in the database, plain for everybody else."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cloacina.client import Client
from cloacina.clock import SystemClock
from cloacina.engine.upkeep import unreadable
from cloacina.errors import IdempotencyConflict, PayloadError, ValidationError
from cloacina.model.json.values import decode
from cloacina.model.status import ExecutionStatus
from cloacina.runner import Runner
from cloacina.store.payloads import Checksum, Compression, Offload, Payloads
from cloacina.store.postgres.database import PostgresReader, PostgresWriter
from cloacina.store.sqlite.database import SqliteReader, SqliteWriter
from support.payloads import (
    CANARY,
    COMPLETED,
    FAILED,
    PARKED,
    bytes_on_disk,
    encryption,
    everything,
    one,
    opened,
    payload_rows,
    rests,
    story,
    waiting,
)
from support.runners import Gate, in_memory, runner_on

CHAINS: dict[str, Callable[[], Payloads | None]] = {
    "off": lambda: None,
    "compressed": lambda: Payloads([Compression(over=100)]),
    "summed": lambda: Payloads([Checksum()]),
    "encrypted": lambda: Payloads([encryption()]),
    "offloaded": lambda: Payloads([Offload(over=1_000)]),
    "all": everything,
}

# What everybody sees.


@pytest.mark.parametrize("times", [1, 500, 80_000])
@pytest.mark.parametrize("chain", CHAINS)
async def test_what_goes_in_comes_out(tmp_path: Path, chain: str, times: int) -> None:
    path, workflow = tmp_path / "c.db", story()
    given = {"text": CANARY, "times": times, "fails": False, "more": [None, 1.5, {"ü": "\U0001f600"}]}
    expected = {**given, "noted": {"text": CANARY, "big": CANARY * times}, "length": len(CANARY) * times}
    async with runner_on(path, workflow, payloads=CHAINS[chain]()) as runner:
        result = await runner.execute(workflow, given)
        assert (result.status, result.context.to_dict()) == (COMPLETED, expected)
        stored = await runner.get(result.id)
        assert stored.context.to_dict() == expected
    async with runner_on(path, workflow, payloads=CHAINS[chain]()) as runner:
        assert (await runner.get(result.id)).context.to_dict() == expected
        fork = await runner.fork(result.id, from_task="shorten")
        assert (await fork.result()).context.to_dict() == expected
        assert [info.status for info in await runner.list()] == [COMPLETED, COMPLETED]


@pytest.mark.parametrize("chain", CHAINS)
async def test_errors_and_their_retries_too(tmp_path: Path, chain: str) -> None:
    path, workflow = tmp_path / "c.db", story()
    async with runner_on(path, workflow, payloads=CHAINS[chain]()) as runner:
        result = await runner.execute(workflow, {"text": CANARY, "times": 300, "fails": True})
        assert (result.status, result.error) == (FAILED, f"end: ValueError: {CANARY} is no good")
        again = await (await runner.retry(result.id)).result()
        assert again.error == result.error and again.id != result.id
        for id in (result.id, again.id):
            stored = await runner.get(id)
            error = stored.tasks["end"].error
            assert error is not None and CANARY in error.message and "raise ValueError" in error.traceback
            assert stored.error == (await runner.explain(id)).reason == result.error
        assert [info.error for info in await runner.list(status="failed")] == [result.error] * 2


async def test_off_is_free_and_plain(tmp_path: Path) -> None:
    path, workflow = tmp_path / "c.db", story()
    async with runner_on(path, workflow) as runner:
        means: Any = runner._engine.means
        assert type(means.writer._store) in (SqliteWriter, PostgresWriter)
        assert type(means.reader._store) in (SqliteReader, PostgresReader)
        result = await runner.execute(workflow, {"text": CANARY, "times": 50_000, "fails": False})
    assert not (tmp_path / "c.db-payloads").exists()
    rows = payload_rows(path)
    assert decode(rows["executions.result"][0]) == result.context.to_dict()
    assert not [text for texts in rows.values() for text in texts if text.startswith("!")]


async def test_encryption_leaves_nothing_plain(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Not in a table, not in the log of the database, not in a file beside it, not in what is logged."""
    path, workflow = tmp_path / "c.db", story()
    caplog.set_level("DEBUG")
    async with runner_on(path, workflow, payloads=everything()) as runner:
        for times in (1, 50_000):
            result = await runner.execute(workflow, {"text": CANARY, "times": times, "fails": True})
            await (await runner.retry(result.id)).result()
        assert CANARY.encode() not in bytes_on_disk(path)
    assert CANARY.encode() not in bytes_on_disk(path)
    assert b"no good" not in bytes_on_disk(path)
    assert CANARY not in caplog.text
    rows = payload_rows(path)
    assert {column: len(texts) for column, texts in rows.items()} == {
        "executions.input": 4, "executions.result": 4, "executions.error": 4,
        "attempts.delta": 8, "attempts.error": 4, "checkpoints.value": 2,
    }  # fmt: skip
    assert not [text for texts in rows.values() for text in texts if not text.startswith("!")]


async def test_plain_and_encoded_lie_side_by_side(tmp_path: Path) -> None:
    """No setting changes what is stored, so none needs a migration."""
    path, workflow = tmp_path / "c.db", story()
    given = {"text": CANARY, "times": 300, "fails": False}
    ids: list[str] = []
    for chain in (None, Payloads([Compression(over=1)]), everything(), Payloads([encryption(current=None)])):
        async with runner_on(path, workflow, payloads=chain) as runner:
            ids.append((await runner.execute(workflow, given)).id)
    async with runner_on(path, workflow, payloads=everything()) as runner:
        contexts = [(await runner.get(id)).context.to_dict() for id in ids]
    assert all(context == contexts[0] for context in contexts)


async def test_a_key_that_was_used_before_is_recognised(tmp_path: Path) -> None:
    """Though the same input is stored differently each time."""
    path, gate = tmp_path / "c.db", opened()
    for _ in range(2):
        async with runner_on(path, payloads=everything()) as runner:
            handles = [await runner.submit(one(gate), {"a": "x" * 5_000}, key="k") for _ in range(2)]
            assert handles[0].id == handles[1].id
            with pytest.raises(IdempotencyConflict):
                await runner.submit(one(gate), {"a": "y"}, key="k")


async def test_a_key_of_an_execution_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    path, gate = tmp_path / "c.db", opened()
    async with runner_on(path, payloads=everything("k1")) as runner:
        handle = await runner.submit(one(gate), {"a": 1}, key="k")
        await handle.result()
    async with runner_on(path, payloads=everything("k2")) as runner:
        with pytest.raises(PayloadError, match=f"input of execution {handle.id} cannot be read"):
            await runner.submit(one(gate), {"a": 1}, key="k")


async def test_who_waits_without_the_key_is_told(tmp_path: Path) -> None:
    path, gate = tmp_path / "c.db", Gate()
    async with (
        runner_on(path, payloads=everything("k1"), clock=SystemClock()) as runner,
        Client(path, payloads=everything("k2")) as client,
    ):
        handle = await runner.submit(one(gate))
        await gate.reached()
        waiting = asyncio.ensure_future(client.result(handle.id, timeout=60))
        other = asyncio.ensure_future(client.status(handle.id))
        assert await other is ExecutionStatus.RUNNING
        gate.open()
        with pytest.raises(PayloadError, match="encrypted with key 'k1', and Encryption was given 'k2'"):
            await waiting


async def test_a_client_has_them_too(tmp_path: Path) -> None:
    path, workflow = tmp_path / "c.db", story()
    async with (
        runner_on(path, workflow, payloads=everything(), clock=SystemClock()),
        Client(path, payloads=everything()) as client,
    ):
        result = await client.execute("story", {"text": CANARY, "times": 500, "fails": False}, timeout=60)
        assert result.context["length"] == 500 * len(CANARY)


async def test_a_database_in_memory_can_be_encrypted() -> None:
    async with in_memory(payloads=Payloads([Compression(), encryption()])) as runner:
        result = await runner.execute(story(), {"text": CANARY, "times": 500, "fails": False})
        assert (await runner.get(result.id)).context["length"] == 500 * len(CANARY)


async def test_a_database_in_memory_has_no_files() -> None:
    with pytest.raises(ValidationError, match="Offload needs a database in a file"):
        await in_memory(payloads=everything()).start()


@pytest.mark.parametrize("bad", [[Compression()], "z", Compression()])
def test_something_else_is_refused(bad: Any) -> None:
    with pytest.raises(ValidationError, match=r"write payloads=Payloads\(\[\.\.\.\]\)"):
        Runner(payloads=bad)


@pytest.fixture(params=[0o000, 0o022, 0o077])
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


@pytest.mark.usefixtures("umask")
async def test_nobody_else_may_read_a_file(tmp_path: Path) -> None:
    async with runner_on(tmp_path / "c.db", payloads=everything()) as runner:
        await runner.execute(story(), {"text": os.urandom(4_000).hex(), "times": 1, "fails": False})
        modes = {path: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*")}
    assert len([path for path in modes if "payloads" in str(path)]) >= 3
    assert [path for path, mode in modes.items() if mode & 0o077] == []


# Keys.


async def test_keys_are_rotated_under_load(tmp_path: Path) -> None:
    """Runners with the old and with the new key current work side by side on what either has stored."""
    path, workflow = tmp_path / "c.db", story()
    inputs = [{"text": f"{CANARY}{n}", "times": 50, "fails": False} for n in range(60)]
    ids = await waiting(path, workflow, *inputs[:20], payloads=everything("old"))
    async with runner_on(
        path, workflow, window=2, clock=SystemClock(), payloads=everything("old", "new")
    ) as first:
        ids += [handle.id for handle in await first.submit_many(workflow, inputs[20:40])]
        async with runner_on(
            path, workflow, window=2, clock=SystemClock(), payloads=everything("new", "old")
        ) as second:
            ids += [handle.id for handle in await second.submit_many(workflow, inputs[40:])]
            for runner in (first, second):
                results = [await runner.result(id, timeout=60) for id in ids]
                assert [result.context["length"] for result in results] == [
                    50 * len(given["text"]) for given in inputs
                ]
    async with runner_on(path, workflow, payloads=everything("new")) as runner:
        with pytest.raises(PayloadError, match="encrypted with key 'old', and Encryption was given 'new'"):
            await runner.get(ids[0])


@pytest.mark.parametrize(
    ("lacking", "why"),
    [
        (lambda: everything("k2"), "it was encrypted with key 'k1', and Encryption was given 'k2'"),
        (lambda: Payloads([]), "it was stored by a codec with marker 'e'"),
        (lambda: None, "this program opened the database without payloads="),
    ],
)
async def test_what_cannot_be_read_is_set_aside_until_it_can_be(
    tmp_path: Path, lacking: Callable[[], Payloads | None], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, workflow = tmp_path / "c.db", one(opened())
    monkeypatch.setattr(unreadable, "PAGE", 1)
    ids = await waiting(path, workflow, {"n": 1}, {"n": 2}, payloads=everything("k1"))
    async with runner_on(path, workflow, payloads=lacking()) as runner:
        for id in ids:
            assert await rests(runner, id) is PARKED
            explained = await runner.explain(id)
            assert explained.status is PARKED
            assert explained.reason.startswith(
                f"what is stored of it cannot be read: the input of execution {id}"
            )
            assert why in explained.reason
            with pytest.raises(PayloadError, match=why):
                await runner.get(id)
        assert (await runner.execute(workflow, {"n": 3})).status is COMPLETED
        assert len(await runner.list(status="parked")) == 2
    async with runner_on(path, workflow, payloads=everything("k1", "k2")) as runner:
        for n, id in enumerate(ids, 1):
            assert (await runner.result(id, timeout=20)).context.to_dict() == {"n": n}


async def test_a_parked_execution_can_be_resumed_by_hand(tmp_path: Path) -> None:
    path, workflow = tmp_path / "c.db", one(opened())
    given = {"a": os.urandom(3_000).hex()}
    (id,) = await waiting(path, workflow, given, payloads=everything())
    (file,) = (tmp_path / "c.db-payloads" / id).iterdir()
    file.rename(tmp_path / "aside")
    async with runner_on(path, workflow, payloads=everything()) as runner:
        assert await rests(runner, id) is PARKED
        assert f"its file {file} is missing: put it back from a backup" in (await runner.explain(id)).reason
        (tmp_path / "aside").rename(file)
        await runner.resume(id)
        assert (await runner.result(id, timeout=20)).context.to_dict() == given
