"""The program of one of several processes whose threads all submit the same idempotency keys.

Half of the submits join a transaction of their thread's. It prints, as JSON, the ids that each key gave.
"""

from __future__ import annotations

import json
import random
import sys
from concurrent.futures import ThreadPoolExecutor

import psycopg

from cloacina import BlockingRunner, Context, Workflow
from cloacina.errors import KeyBusy

keyed = Workflow("keyed")


@keyed.task
async def run(ctx: Context) -> None: ...


def main(url: str, schema: str, threads: int, keys: int, seed: int) -> None:
    got: dict[str, set[str]] = {f"key {number}": set() for number in range(keys)}

    def submit_all(thread: int) -> None:
        rng = random.Random(f"{seed}/{thread}")
        with psycopg.connect(url, autocommit=True) as connection:
            for key in rng.sample(list(got), keys):
                got[key].add(submit(key, rng, connection))

    def submit(key: str, rng: random.Random, connection: psycopg.Connection) -> str:
        while True:
            try:
                if rng.random() < 0.5:
                    return runner.submit(keyed, {"key": key}, key=key).id
                with connection.transaction():
                    return runner.submit(keyed, {"key": key}, key=key, connection=connection).id
            except KeyBusy:
                continue

    with BlockingRunner(url, schema=schema, workflows=[keyed]) as runner, ThreadPoolExecutor(threads) as pool:
        list(pool.map(submit_all, range(threads)))
    print(json.dumps({key: sorted(ids) for key, ids in got.items()}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:]))
