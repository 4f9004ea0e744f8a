"""The command: ``python -m benchmarks [names] [--bodies async|def|both] [--rounds N] [--no-peers] [--write]``."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.harness import folders, report
from benchmarks.harness.child import question
from benchmarks.harness.machine import describe, weather
from benchmarks.harness.question import Bodies
from benchmarks.harness.run import Answer, ask
from benchmarks.harness.subjects import Subject, subjects

NAMES = (
    "throughput", "chain", "chains", "fanout", "latency", "history", "idle", "recovery", "imports", "memory",
    "workers", "prune", "checkpoints", "process_executor",
)  # fmt: skip
BODIES: dict[str, tuple[Bodies, ...]] = {"async": ("async",), "def": ("def",), "both": ("async", "def")}
RESULTS = Path(__file__).with_name("RESULTS.md")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure, compare, report.")
    parser.add_argument(
        "names", nargs="*", metavar="name", help=f"all of them by default: {', '.join(NAMES)}"
    )
    parser.add_argument("--bodies", choices=BODIES, default="async")
    parser.add_argument("--rounds", type=int, help="rounds that count; by default what each question says")
    parser.add_argument("--folder", help="where databases are made; must be on a disk")
    parser.add_argument("--no-peers", action="store_true", help="leave out DBOS even if it is installed")
    parser.add_argument("--write", action="store_true", help="replace RESULTS.md; needs everything measured")
    found = parser.parse_args()
    strangers = set(found.names).difference(NAMES)
    if strangers:
        parser.error(f"unknown: {', '.join(sorted(strangers))}; there are {', '.join(NAMES)}")
    if found.write and (found.names or found.bodies != "both" or found.no_peers):
        parser.error("--write wants one whole run: no names, --bodies both, and peers")
    return found


def measure(options: argparse.Namespace, name: str, folder: Path, bytecode: Path) -> Answer:
    """All rounds of one question, for every subject that was asked for."""
    asked = question(name)
    kinds = BODIES[options.bodies] if asked.bodies else BODIES["async"]
    measured: list[Subject] = subjects(kinds, peers=not options.no_peers)
    return ask(name, asked, measured, options.rounds or asked.rounds, folder, bytecode)


def main() -> None:
    options = arguments()
    folder = folders.choose(options.folder)
    machine = describe(folder)
    machine["at the start"] = weather(folder)
    print("\n".join(f"{fact}: {value}" for fact, value in machine.items()), flush=True)
    answers: list[Answer] = []
    with folders.fresh(folder) as bytecode:
        for name in options.names or NAMES:
            answers.append(measure(options, name, folder, Path(bytecode)))
            print(report.as_text(list(report.rows(answers[-1:]))), flush=True)
    machine["at the end"] = weather(folder)
    print(f"at the end: {machine['at the end']}")
    if options.write:
        RESULTS.write_text(report.as_markdown(list(report.rows(answers)), machine))


if __name__ == "__main__":
    main()
