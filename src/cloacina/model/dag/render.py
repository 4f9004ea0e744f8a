"""Pictures of a DAG: as data, as plain text, as a Mermaid flowchart, as a Graphviz digraph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DagNode:
    """A task in the picture of a DAG. ``level`` is the length of the longest way to it; ``rule`` is text."""

    id: str
    level: int
    description: str
    tags: tuple[str, ...]
    rule: str
    optional: bool
    recovers: bool


@dataclass(frozen=True, slots=True)
class DagEdge:
    """``target`` depends on ``source``. ``condition`` says which outcomes of it a rule tests: ``"failed"``."""

    source: str
    target: str
    condition: str


@dataclass(frozen=True, slots=True)
class DagMetadata:
    """The measures of a DAG: counts of tasks, edges and levels, and the most tasks on one level."""

    name: str
    tasks: int
    edges: int
    levels: int
    width: int


def text(metadata: DagMetadata, nodes: Sequence[DagNode], edges: Sequence[DagEdge]) -> str:
    """A line for each task: its level, its id, what it waits for, and which outcomes its rule tests."""
    width = max(len(node.id) for node in nodes)
    waits: dict[str, list[str]] = {}
    for edge in edges:
        tested = f" ({edge.condition})" if edge.condition else ""
        waits.setdefault(edge.target, []).append(f"{edge.source}{tested}")
    lines = [
        f"{metadata.name}: {metadata.tasks} tasks, {metadata.edges} dependencies, {metadata.levels} levels"
    ]
    for node in nodes:
        after = f"{node.id:<{width}}  ← {', '.join(waits[node.id])}" if node.id in waits else node.id
        lines.append(f"{node.level:>3}  {after}{'  [optional]' if node.optional else ''}")
    return "\n".join(lines) + "\n"


def mermaid(nodes: Sequence[DagNode], edges: Sequence[DagEdge]) -> str:
    """A flowchart. Nodes are numbered, because Mermaid reserves words such as ``end``."""
    lines = ["flowchart TD"]
    numbers = {node.id: number for number, node in enumerate(nodes)}
    for node in nodes:
        opening, closing = ("{{", "}}") if node.rule else ("[", "]")
        looks = ":::optional" if node.optional else ""
        lines.append(f'    t{numbers[node.id]}{opening}"{node.id}"{closing}{looks}')
    for edge in edges:
        label = f'|"{edge.condition}"|' if edge.condition else ""
        lines.append(f"    t{numbers[edge.source]} -->{label} t{numbers[edge.target]}")
    if any(node.optional for node in nodes):
        lines.append("    classDef optional stroke-dasharray: 4 4")
    return "\n".join(lines) + "\n"


def dot(metadata: DagMetadata, nodes: Sequence[DagNode], edges: Sequence[DagEdge]) -> str:
    """A digraph. Names hold no character that needs more than its quotes."""
    lines = [f'digraph "{metadata.name}" {{', "    node [shape=box];"]
    for node in nodes:
        looks = ["shape=hexagon"] * bool(node.rule) + ["style=dashed"] * node.optional
        told = f" [{', '.join(looks)}]" if looks else ""
        lines.append(f'    "{node.id}"{told};')
    for edge in edges:
        label = f' [label="{edge.condition}"]' if edge.condition else ""
        lines.append(f'    "{edge.source}" -> "{edge.target}"{label};')
    return "\n".join([*lines, "}"]) + "\n"
