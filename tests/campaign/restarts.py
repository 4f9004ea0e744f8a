"""Restarts: a PostgreSQL server that is restarted, that crashes, and that loses a session, under load."""

from __future__ import annotations

import signal

from acceptance.support.child import PATIENCE
from acceptance.support.harms import fast, immediate, killed_backend
from acceptance.support.shapes import MIXED
from campaign.place import Place, Skipped
from campaign.sizes import Sizes

HARMS = (fast, immediate, killed_backend)
BATCH = 20
"""Harms on one database."""


def play(place: Place, sizes: Sizes) -> str:
    """Do each harm so many times; return what was done. Nobody dies, so no body may be repeated."""
    if place.server is None:
        raise Skipped("SQLite has no server")
    for first in range(0, sizes.restarts, BATCH):
        with place.stage(f"restarts-{first}") as stage:
            rng, times = place.rng("restarts", first), min(BATCH, sizes.restarts - first)
            steady = stage.start(stage.asks(*MIXED * 12 * times), pace="to the end")
            steady.line("up")  # a client knows only what somebody has registered
            others = [
                stage.start(stage.asks(*MIXED * 4 * times), pace="in turn", stay=True),
                stage.start(
                    stage.asks(*MIXED * 4 * times, keyed=True), client=True, pace="to the end", stay=True
                ),
            ]
            for other in others:
                other.line("up")
            harms = list(HARMS) * times
            rng.shuffle(harms)
            for harm in harms:
                stage.wait_for_progress()
                steady.outlives(rng.uniform(0.0, 0.1))
                harm(place.server, rng)
            assert steady.wait(PATIENCE * (1 + times)) == 0, steady.tail()
            for other in others:
                other.line("staying")  # a client is not done before the runner has done its work
            for other in others:
                other.signal(signal.SIGTERM)
                assert other.wait() == 0, other.tail()
            place.judge(stage)
    told = ", ".join(f"{sizes.restarts} {harm.__name__.replace('_', ' ')}" for harm in HARMS)
    return f"{told}: nobody may repeat anything"
