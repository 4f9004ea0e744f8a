"""The same idempotency keys from many threads of two processes, on their own and within transactions of theirs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from acceptance.support.campaign import campaign
from support.postgres.server import PostgresServer

TESTS = Path(__file__).parents[1]


@pytest.mark.parametrize(("threads", "keys"), [(8, 25), campaign(50, 200)])
def test_a_key_makes_one_execution(threads: int, keys: int, postgres: PostgresServer, schema: str) -> None:
    command = [sys.executable, "-m", "acceptance.support.same_keys", postgres.url(), schema]
    running = [
        subprocess.Popen(
            [*command, str(threads), str(keys), str(seed)], cwd=TESTS, stdout=subprocess.PIPE, text=True
        )
        for seed in range(2)
    ]
    outputs = [process.communicate()[0] for process in running]
    assert [process.returncode for process in running] == [0, 0]
    one, other = map(json.loads, outputs)
    assert one == other
    assert {len(ids) for ids in one.values()} == {1}
    stored = postgres.execute(f"SELECT id FROM {schema}.executions")
    assert sorted(id for (id,) in stored) == sorted(ids[0] for ids in one.values())
    assert len(stored) == keys
