"""The command: ``python -m benchmarks [names] [--store sqlite|postgres|both] [--bodies async|def|both] …``."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.harness import folders, report
from benchmarks.harness import server as servers
from benchmarks.harness.child import question
from benchmarks.harness.database import STORES, Store
from benchmarks.harness.machine import describe, weather
from benchmarks.harness.question import Bodies
from benchmarks.harness.run import Answer, Place, ask
from benchmarks.harness.subjects import subjects

NAMES = (
    "throughput", "chain", "chains", "fanout", "latency", "history", "claims", "idle", "statements", "recovery",
    "imports", "memory", "workers", "contention", "prune", "checkpoints", "process_executor",
)  # fmt: skip
BODIES: dict[str, tuple[Bodies, ...]] = {"async": ("async",), "def": ("def",), "both": ("async", "def")}
WHERE: dict[str, tuple[Store, ...]] = {"sqlite": ("sqlite",), "postgres": ("postgres",), "both": STORES}
RESULTS = Path(__file__).with_name("RESULTS.md")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure, compare, report.")
    parser.add_argument(
        "names", nargs="*", metavar="name", help=f"all of them by default: {', '.join(NAMES)}"
    )
    parser.add_argument("--store", choices=WHERE, default="both")
    parser.add_argument("--database", metavar="URL", help="a PostgreSQL to measure on, instead of a new one")
    parser.add_argument("--bodies", choices=BODIES, default="async")
    parser.add_argument("--rounds", type=int, help="rounds that count; by default what each question says")
    parser.add_argument("--folder", help="where databases are made; must be on a disk")
    parser.add_argument("--no-peers", action="store_true", help="leave out other engines even if installed")
    parser.add_argument("--write", action="store_true", help="replace RESULTS.md; needs everything measured")
    found = parser.parse_args()
    strangers = set(found.names).difference(NAMES)
    if strangers:
        parser.error(f"unknown: {', '.join(sorted(strangers))}; there are {', '.join(NAMES)}")
    if found.write and (found.names or found.bodies != "both" or found.store != "both" or found.no_peers):
        parser.error("--write wants one whole run: no names, --bodies both, both stores, and peers")
    return found


@contextmanager
def server_for(options: argparse.Namespace, folder: Path) -> Iterator[str]:
    """The URL of the PostgreSQL to measure on; empty if none is asked for."""
    if options.store == "sqlite":
        yield ""
    elif options.database:
        yield options.database
    else:
        with servers.started(folder) as url:
            yield url


def measure(options: argparse.Namespace, place: Place) -> Iterator[Answer]:
    """All rounds of every question that was asked for, for every subject."""
    for store in WHERE[options.store]:
        for name in options.names or NAMES:
            asked = question(name)
            if store in asked.stores:
                kinds = BODIES[options.bodies] if asked.bodies else BODIES["async"]
                measured = subjects(store, kinds, peers=not options.no_peers)
                yield ask(name, asked, store, measured, options.rounds or asked.rounds, place)


def main() -> None:
    options = arguments()
    folder = folders.choose(options.folder)
    answers: list[Answer] = []
    with folders.fresh(folder) as bytecode, server_for(options, folder) as server:
        machine = describe(folder, server)
        machine["at the start"] = weather(folder)
        print("\n".join(f"{fact}: {value}" for fact, value in machine.items()), flush=True)
        for answer in measure(options, Place(folder, server, Path(bytecode))):
            answers.append(answer)
            print(report.as_text(answer), flush=True)
    machine["at the end"] = weather(folder)
    print(f"at the end: {machine['at the end']}")
    if options.write:
        RESULTS.write_text(report.as_markdown(answers, machine))


if __name__ == "__main__":
    main()
