"""The report: the same rows as text for a terminal and as Markdown for RESULTS.md."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from benchmarks.harness.database import STORES, Store
from benchmarks.harness.question import Metric
from benchmarks.harness.run import Answer, Figure
from benchmarks.harness.subjects import FLOORS, PEERS, TITLES, Subject

STORE_TITLES: dict[Store, str] = {"sqlite": "SQLite", "postgres": "PostgreSQL"}

PREFACE = """# Results

Written by `python -m benchmarks --bodies both --write`; everything in the tables was measured by that one run, on
one machine that may have been busy with other things. Each figure is the median of several rounds, and the
smallest and largest of them, each round on a fresh database file or schema. `README.md` says what is measured.

The targets are those that the project set itself before; MISSED means that this run did not reach one. The
bare floor (`skeleton.py`) makes the same writes to the same schema without an engine. DBOS runs the same work
with `async` workflows and steps, on SQLite in its default mode and on a file in WAL mode; Procrastinate runs it as
`async` jobs, of which each defers the next. "×" says how many times as fast, or as small, cloacina was.
"""


def header(store: Store) -> tuple[str, ...]:
    """What stands above the columns of the rows of ``store``."""
    peers = (text for name in PEERS[store] for text in (TITLES[name], "cloacina is"))
    floor, *others = (TITLES[name] for name in FLOORS[store])
    return (
        "work", "bodies", "cloacina: median (min, max)", "target", "", floor, "share of it (least)", *others, *peers,
    )  # fmt: skip


def rows(answers: Sequence[Answer]) -> Iterator[tuple[str, ...]]:
    """One row per metric and kind of bodies."""
    for answer in answers:
        for metric in answer.question.metrics:
            for subject in [*answer.samples, *answer.failures]:
                if subject.name == "cloacina":
                    yield _row(answer, metric, subject)


def _row(answer: Answer, metric: Metric, subject: Subject) -> tuple[str, ...]:
    store = answer.store
    bodies = subject.bodies if answer.question.bodies else "-"
    ours = answer.figure(subject, metric)
    asked = _target(metric, store)
    if ours is None:
        return (metric.title, bodies, "FAILED", asked, "MISSED", *("-" for _ in header(store)[5:]))
    verdict = {True: "ok", False: "MISSED", None: ""}[metric.meets(ours.median, store)]
    floor, *others = (answer.figure(Subject(name, store), metric) for name in FLOORS[store])
    peers = (_peer(metric, ours, answer.figure(Subject(name, store), metric)) for name in PEERS[store])
    return (
        metric.title, bodies, _shown(metric, ours), asked, verdict,
        _median(floor), _share(metric, ours, floor), *map(_median, others), *(text for pair in peers for text in pair),
    )  # fmt: skip


def _median(figure: Figure | None) -> str:
    return "-" if figure is None else number(figure.median)


def _shown(metric: Metric, figure: Figure) -> str:
    median = f"{number(figure.median)} {metric.unit}".strip()
    return f"{median} ({number(figure.least)}, {number(figure.most)})"


def _target(metric: Metric, store: Store) -> str:
    asked = metric.asked(store)
    if asked is None:
        return "-"
    return f"{'≥' if metric.higher_is_better else '≤'} {number(asked)}"


def _share(metric: Metric, ours: Figure, floor: Figure | None) -> str:
    if floor is None:
        return "-"
    share = metric.speed(ours.median, floor.median)
    if metric.share is None:
        return f"{share:.2f}"
    return f"{share:.2f} (≥ {metric.share}: {'ok' if share >= metric.share else 'MISSED'})"


def _peer(metric: Metric, ours: Figure, peer: Figure | None) -> tuple[str, str]:
    if peer is None:
        return "-", "-"
    times = metric.speed(ours.median, peer.median)
    return number(peer.median), "∞ ×" if times == float("inf") else f"{number(times)} ×"


def number(value: float) -> str:
    """Three digits that count, more for whole thousands: 0.213, 5.08, 94.2, 12,340."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) >= 0.0005 else "0"


def as_text(answer: Answer) -> str:
    """The rows of one answer as lines for a terminal, each under its work's title."""
    lines: list[str] = []
    for row in rows([answer]):
        lines.append(f"{STORE_TITLES[answer.store]}: {row[0]} [{row[1]}]: {row[2]}  target {row[3]} {row[4]}")
        titles = header(answer.store)[5:]
        extra = [f"{title} {cell}" for title, cell in zip(titles, row[5:], strict=True) if cell != "-"]
        if extra:
            lines.append("    " + ", ".join(extra))
    return "\n".join(lines)


def as_markdown(answers: Sequence[Answer], machine: Mapping[str, str]) -> str:
    """The whole of RESULTS.md."""
    facts = "\n".join(f"* {name}: {value}" for name, value in machine.items())
    tables = "\n".join(_table(store, [one for one in answers if one.store == store]) for store in STORES)
    return f"{PREFACE}\n## Machine\n\n{facts}\n\n{tables}"


def _table(store: Store, answers: Sequence[Answer]) -> str:
    titles = header(store)
    lines = "\n".join(
        f"| {' | '.join(row)} |" for row in [titles, tuple("---" for _ in titles), *rows(answers)]
    )
    return f"## {STORE_TITLES[store]}\n\n{lines}\n"
