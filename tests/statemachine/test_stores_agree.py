"""The two databases agree: on everything that their stores are told, and on everything that a runner is asked."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

import pytest

from acceptance.support.campaign import campaign
from statemachine.beside import BesideMachine
from statemachine.differential import StoreMachine
from statemachine.places import Place
from statemachine.running import run
from statemachine.twins import Twins
from support.postgres.server import PostgresServer

NEEDED = {
    "stores": ("commit", "commit raises Fenced", "commit raises StoreRefused", "insert_unowned", "insert_forks",
               "recover", "rewrite", "send", "prune", "register_versions", "executions", "stranded", "expired"),
    "runners": ("submit", "submit_many", "submit raises QueueFull", "submit raises IdempotencyConflict", "cancel",
                "pause", "resume", "retry", "fork", "fork raises ForkRefused", "retry_many", "prune", "crash",
                "shutdown", "advance", "checkpoint", "defer", "fail", "write"),
}  # fmt: skip
"""What a long run must have seen succeed, or be refused for a reason."""


@pytest.mark.parametrize(("examples", "seed"), [(40, None), campaign(3_000, 1, id="campaign")])
def test_two_stores(examples: int, seed: int | None, postgres: PostgresServer, schema: str) -> None:
    StoreMachine.happened.clear()
    with closing(Twins(postgres, schema)) as twins:
        StoreMachine.twins = twins
        run(StoreMachine, examples, seed=seed)
    if seed is not None:
        assert [what for what in NEEDED["stores"] if not StoreMachine.happened[what]] == []


@pytest.mark.parametrize(("examples", "seed"), [(10, None), campaign(600, 1, id="campaign")])
def test_two_runners(examples: int, seed: int | None, place_of: Callable[[str], Place]) -> None:
    BesideMachine.happened.clear()
    BesideMachine.places = place_of("file"), place_of("postgres")
    run(BesideMachine, examples, seed=seed)
    if seed is not None:
        assert [what for what in NEEDED["runners"] if not BesideMachine.happened[what]] == []
