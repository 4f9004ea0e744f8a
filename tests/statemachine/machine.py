"""The machine: its rules are the public API and what fate can do; after each the model and reality are compared."""

from __future__ import annotations

from statemachine.again import Again
from statemachine.bodies import Bodies
from statemachine.calls import Calls
from statemachine.comings import Comings
from statemachine.places import Place


class EngineMachine(Comings, Calls, Again, Bodies):
    """All rules. ``place`` is the database; a subclass has it."""


def machine_at(place: Place) -> type[EngineMachine]:
    """The machine on one database."""

    class Machine(EngineMachine):
        pass

    Machine.place = place
    return Machine
