"""Images: what the disk may hold after a power cut at many moments of recorded runs, and what becomes of it."""

from __future__ import annotations

import random
import signal

from acceptance.support import power
from acceptance.support.order import Ask
from acceptance.support.shapes import MIXED
from acceptance.support.stage import Stage
from campaign.place import Place, Skipped
from campaign.sizes import Sizes

RUN = 1_000
"""Images of one recorded run."""
SHAPES = (*MIXED, "fan", "choice", "stepwise", "postponed", "again")


def play(place: Place, sizes: Sizes) -> str:
    """Look at so many images; return what was done."""
    if place.server is not None:
        raise Skipped("the power is cut from SQLite's files; PostgreSQL's own durability is not ours to show")
    corrupt = runs = 0
    for first in range(0, sizes.images, RUN):
        rng = place.rng("images", first)
        share = min(RUN, sizes.images - first)
        with place.stage(f"recorded-{first}") as recorded:
            start = recorded.database.read_bytes()
            trace = _record(recorded, rng, 6 if share < RUN else 20)
            place.judge(recorded)
            pids = {child.pid for child in recorded.children}
            cuts = power.cuts(trace, recorded.database.name, start, rng, share)
            played_on = set(rng.sample(range(share), sizes.played_on * share // sizes.images))
            corrupt += sum(
                _corrupt(place, cut, n, n - first in played_on, pids) for n, cut in enumerate(cuts, first)
            )
            runs += 1
    return f"{sizes.images:,} power cuts in {runs} recorded runs: {corrupt} images corrupt; {sizes.played_on} played on"


def _corrupt(place: Place, image: power.Image, number: int, on: bool, pids: set[int]) -> bool:
    image.write(place.folder / f"image-{number}")
    with place.stage(f"image-{number}") as stage:
        stage.lost_power = pids
        place.so_far(stage)
        if on:
            place.end(stage)
    return f"image-{number}" in place.tally.places


def _record(stage: Stage, rng: random.Random, many: int) -> list[power.Operation]:
    """Everything that two programs do, of which the first leaves work to the second."""
    trace = stage.folder / "trace"
    child = stage.start(_asks(stage, rng, many), trace=trace, stay=True, pace="to the end")
    child.line("staying")
    child.signal(signal.SIGTERM)
    assert child.wait() == 0, child.tail()
    child = stage.start(_asks(stage, rng, many), trace=trace, pace="at once")
    assert child.wait() == 0, child.tail()
    return power.read(trace)


def _asks(stage: Stage, rng: random.Random, many: int) -> tuple[Ask, ...]:
    return stage.asks(*rng.choices(SHAPES, k=many * 3))
