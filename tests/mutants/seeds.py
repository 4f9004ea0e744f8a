"""Seeds, played until one breaks a promise: what the command runs in a process of its own, on a copy of the source.

python -m mutants.seeds SEEDS     prints, as JSON, how many were played, the last one's broken promise, and the package
"""

from __future__ import annotations

import json
import sys

import cloacina
from simulation.generate import plan_of
from simulation.play import play


def main() -> None:
    """Play seeds from 1 on."""
    seeds, broken = int(sys.argv[1]), ""
    played = 0
    while played < seeds and not broken:
        played += 1
        promises = play(plan_of(played)).broken
        broken = promises[0] if promises else ""
    print(json.dumps({"played": played, "broken": broken, "package": cloacina.__file__}))


if __name__ == "__main__":
    main()
