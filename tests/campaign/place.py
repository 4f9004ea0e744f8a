"""The place: where a campaign on one database is played, and everything that its sections need."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from acceptance.support.child import Nursery
from acceptance.support.homes import Home
from acceptance.support.server_homes import ServerHome, ServerHomes
from acceptance.support.stage import Stage, Theatre
from campaign.tally import Tally
from support.postgres.server import PostgresServer


class Skipped(Exception):
    """This machine, or this database, has no such faults; the text says why."""


class Place:
    """Stages on one database, ``sqlite`` or ``postgres``, and the tally of them all."""

    def __init__(
        self, nursery: Nursery, folder: Path, seed: int, server: PostgresServer | None = None
    ) -> None:
        """``folder`` must exist. With a server, which may be hurt, stages are schemas on it."""
        self.server = server
        self.database = "sqlite" if server is None else "postgres"
        self.folder = folder
        self.seed = seed
        self.tally = Tally()
        self.nursery = nursery
        self._homes = None if server is None else ServerHomes(server)
        self.theatre = Theatre(nursery, folder, self._homes)

    @property
    def at_once(self) -> int:
        """Stages to play at the same time: on a server they wait for each other's ends most of the time."""
        return 2 if self.server is None else 6

    def rng(self, *words: object) -> random.Random:
        """Chance for one part of the campaign."""
        return random.Random("/".join(map(str, (self.seed, self.database, *words))))

    @contextmanager
    def stage(self, name: str, *, home: Home | None = None) -> Iterator[Stage]:
        """A stage; removed at the end, unless there is something to complain of."""
        stage = Stage(self.nursery, self.folder / name, home=home or self._home(name))
        try:
            yield stage
        except (AssertionError, TimeoutError) as error:
            self.tally.complain(name, {"stuck": [f"{error} {stage.log()[-1000:]}"]})
        finally:
            stage.close()
        if name not in self.tally.places:
            shutil.rmtree(stage.folder)
            if isinstance(stage.home, ServerHome) and self.server is not None and stage.home.schema:
                self.server.drop_schema(stage.home.schema)

    def so_far(self, stage: Stage) -> None:
        """Look at a stage on which work goes on."""
        self.tally.complain(stage.folder.name, stage.judge(over=False).complaints)

    def end(self, stage: Stage, *asks: Any, **settings: Any) -> None:
        """Let all work of a stage come to its end, and judge it."""
        stage.finish(asks, **settings)
        self.judge(stage)

    def judge(self, stage: Stage) -> None:
        """Judge a stage on which all should be over."""
        self.tally.add(stage.folder.name, stage.judge(over=True))

    def close(self) -> None:
        if self._homes is not None and self.tally.clean:
            self._homes.close()

    def _home(self, name: str) -> Home | None:
        return None if self._homes is None else self._homes(name)
