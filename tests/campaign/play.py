"""A campaign: its sections, one after the other, on one database."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from contextlib import ExitStack, closing
from pathlib import Path

from acceptance.support.child import Nursery
from campaign import boundaries, calls, disk, images, kills, recoveries, restarts, zombies
from campaign.place import Place, Skipped
from campaign.sizes import Sizes
from campaign.tally import Tally
from support.postgres.server import PostgresServer

SECTIONS: dict[str, Callable[[Place, Sizes], str]] = {
    "kills": kills.play,
    "recoveries": recoveries.play,
    "boundaries": boundaries.play,
    "zombies": zombies.play,
    "power": images.play,
    "disk": disk.play,
    "calls": calls.play,
    "restarts": restarts.play,
}


def campaign(database: str, folder: Path, sizes: Sizes, seed: int, only: Collection[str]) -> Tally:
    """Play these sections on ``sqlite`` or ``postgres``; tell what each did, and every complaint."""
    with ExitStack() as stack:
        server = stack.enter_context(closing(PostgresServer())) if database == "postgres" else None
        nursery = stack.enter_context(closing(Nursery()))
        place = stack.enter_context(closing(Place(nursery, folder, seed, server)))
        for name, play in SECTIONS.items():
            if name in only:
                place.tally.section = name
                began, told = time.monotonic(), len(place.tally.told)
                try:
                    done = play(place, sizes)
                except Skipped as why:
                    done = f"skipped: {why}"
                for complaint in place.tally.told[told:]:
                    print(f"  {complaint}", flush=True)
                print(f"{database} {name}: {done} ({time.monotonic() - began:.0f} s)", flush=True)
        return place.tally
