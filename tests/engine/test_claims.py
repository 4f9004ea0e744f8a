"""When a runner asks for unowned executions a second time: beside others, and after an answer that was refused."""

from __future__ import annotations

from typing import Any, cast

import psycopg

from cloacina.client import Client
from cloacina.engine.claims import Claims
from cloacina.model.task import task
from cloacina.model.workflow import Workflow
from cloacina.runner import Runner
from cloacina.settings import Settings
from cloacina.store.rows import ClaimRequest
from support.clock import HandClock, until
from support.postgres.server import PostgresServer
from support.runners import LONG, Even, Gate


class Scene:
    """Claims of a runner that has one workflow, and ``peers``; ``pokes`` counts its requests for a group."""

    def __init__(self, peers: int) -> None:
        self.clock, self.pokes = HandClock(), 0
        settings = Settings(poll_interval=1.0)
        self.claims = Claims(cast(Any, self), cast(Any, None), self.clock, settings, self.poke, lambda: peers)

    def versions(self) -> tuple[tuple[str, str], ...]:
        return (("w", "1"),)

    def poke(self) -> None:
        self.pokes += 1

    def ask(self, found: int | None = 0) -> None:
        """A claim that finds so many."""
        request = self.claims.request(self.clock.now(), 0, False)
        assert isinstance(request, ClaimRequest)
        self.claims.answered(request, found)


def test_beside_others_a_claim_that_found_little_is_made_a_second_time() -> None:
    scene = Scene(peers=1)
    scene.ask()
    assert not scene.claims.unowned_work
    assert (scene.clock.pending, scene.pokes) == ([1.0], 0)
    scene.clock.advance(1.0)
    assert scene.claims.unowned_work
    assert (scene.clock.pending, scene.pokes) == ([], 1)
    scene.ask()
    assert scene.clock.pending == [], "and not for ever"
    scene.claims.look_for_work()
    scene.ask()
    assert scene.clock.pending == [1.0], "but after every new hint"
    scene.claims.close()
    assert scene.clock.pending == []


def test_who_is_alone_asks_once() -> None:
    scene = Scene(peers=0)
    scene.ask()
    assert scene.clock.pending == []


def test_what_was_refused_is_asked_until_there_is_an_answer() -> None:
    scene = Scene(peers=0)
    for _ in range(3):
        scene.ask(None)
        assert scene.clock.pending == [1.0]
        scene.clock.advance(1.0)
    scene.ask()
    assert scene.clock.pending == []


async def test_what_others_had_locked_and_did_not_take_is_found(
    postgres: PostgresServer, schema: str
) -> None:
    """Nobody rings: a claim that comes to nothing tells nobody."""

    def runner(*workflows: Workflow, clock: HandClock | None = None) -> Runner:
        settings = Settings(lease=LONG, loop_block_limit=LONG, poll_interval=1.0)
        return Runner(postgres.url(), schema=schema, workflows=workflows, settings=settings,
                      clock=clock or HandClock(), randomness=Even())  # fmt: skip

    gate, clock = Gate(), HandClock()
    gate.open()
    workflow = Workflow("w", [task(gate.pass_through, id="it")])
    async with runner(workflow):
        pass
    async with Client(postgres.url(), schema=schema) as client, runner():
        handle = await client.submit("w")
        with psycopg.connect(postgres.socket_url()) as other:
            other.execute(f"SELECT 1 FROM {schema}.executions FOR UPDATE")
            async with runner(workflow, clock=clock) as late:
                claims = late._engine.life.claims
                await until(lambda: not claims.unowned_work, "a claim that finds nothing")
                other.rollback()
                assert gate.entered == 0
                clock.advance(1.0)
                await gate.reached()
                await late.result(handle.id, timeout=20)
