"""The report: the same rows as text for a terminal and as Markdown for RESULTS.md."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from benchmarks.harness.question import Metric
from benchmarks.harness.run import Answer, Figure
from benchmarks.harness.subjects import PEERS, TITLES, Subject

HEADER = (
    "work", "bodies", "cloacina: median (min, max)", "target", "", "bare floor", "share of it (least)",
    *(text for name in PEERS for text in (TITLES[name], "cloacina is")),
)  # fmt: skip

PREFACE = """# Results

Written by `python -m benchmarks --bodies both --write`; everything in the table was measured by that one run, on
one machine that may have been busy with other things. Each figure is the median of several rounds, and the
smallest and largest of them, each round on a fresh database file. `README.md` says what is measured.

The targets are those that the project set itself before; MISSED means that this run did not reach one. The
bare floor (`skeleton.py`) makes the same writes to the same schema without an engine. DBOS runs the same work
with `async` workflows and steps, in its default mode and on a file in WAL mode; "×" says how many times as
fast, or as small, cloacina was.
"""


def rows(answers: Sequence[Answer]) -> Iterator[tuple[str, ...]]:
    """One row per metric and kind of bodies."""
    for answer in answers:
        for metric in answer.question.metrics:
            for subject in [*answer.samples, *answer.failures]:
                if subject.name == "cloacina":
                    yield _row(answer, metric, subject)


def _row(answer: Answer, metric: Metric, subject: Subject) -> tuple[str, ...]:
    bodies = subject.bodies if answer.question.bodies else "-"
    ours = answer.figure(subject, metric)
    if ours is None:
        return (metric.title, bodies, "FAILED", _target(metric), "MISSED", *("-" for _ in HEADER[5:]))
    verdict = {True: "ok", False: "MISSED", None: ""}[metric.meets(ours.median)]
    floor = answer.figure(Subject("floor", "async"), metric)
    peers = [_peer(metric, ours, answer.figure(Subject(name, "async"), metric)) for name in PEERS]
    return (
        metric.title, bodies, _shown(metric, ours), _target(metric), verdict,
        "-" if floor is None else number(floor.median), _share(metric, ours, floor),
        *(text for pair in peers for text in pair),
    )  # fmt: skip


def _shown(metric: Metric, figure: Figure) -> str:
    median = f"{number(figure.median)} {metric.unit}".strip()
    return f"{median} ({number(figure.least)}, {number(figure.most)})"


def _target(metric: Metric) -> str:
    if metric.target is None:
        return "-"
    return f"{'≥' if metric.higher_is_better else '≤'} {number(metric.target)}"


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
    return number(peer.median), "∞ ×" if times == float("inf") else f"{times:.3g} ×"


def number(value: float) -> str:
    """Three digits that count, more for whole thousands: 0.213, 5.08, 94.2, 12,340."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) >= 0.0005 else "0"


def as_text(found: Sequence[tuple[str, ...]]) -> str:
    """The rows as lines for a terminal, each under its work's title."""
    lines: list[str] = []
    for row in found:
        lines.append(f"{row[0]} [{row[1]}]: {row[2]}  target {row[3]} {row[4]}")
        extra = [f"{title} {cell}" for title, cell in zip(HEADER[5:], row[5:], strict=True) if cell != "-"]
        if extra:
            lines.append("    " + ", ".join(extra))
    return "\n".join(lines)


def as_markdown(found: Sequence[tuple[str, ...]], machine: Mapping[str, str]) -> str:
    """The whole of RESULTS.md."""
    facts = "\n".join(f"* {name}: {value}" for name, value in machine.items())
    table = "\n".join(f"| {' | '.join(row)} |" for row in [HEADER, tuple("---" for _ in HEADER), *found])
    return f"{PREFACE}\n## Machine\n\n{facts}\n\n## Figures\n\n{table}\n"
