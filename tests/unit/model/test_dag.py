"""The DAG: its orders against a naive oracle, its queries, its pictures."""

from __future__ import annotations

import json
import random
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloacina.errors import SubgraphError, WorkflowError
from cloacina.model.context.context import Context
from cloacina.model.dag.dag import Dag
from cloacina.model.dag.render import DagEdge, DagMetadata, DagNode
from cloacina.model.rules import context_value, none_of, task_failed, task_skipped, task_success
from cloacina.model.task import Task

Graph = dict[str, list[str]]
"""Every id, in order of declaration, with the ids that it depends on."""


def body(ctx: Context) -> None: ...


def make(graph: Graph, name: str = "w") -> Dag:
    return Dag(name, [Task(body, id=id, dependencies=needed) for id, needed in graph.items()])


@st.composite
def graphs(draw: st.DrawFn, cycles: bool = False) -> Graph:
    ids = draw(st.lists(st.sampled_from("abcdefghijkl"), min_size=1, max_size=9, unique=True))
    ranks = {id: rank for rank, id in enumerate(draw(st.permutations(ids)))}
    pairs = st.tuples(st.sampled_from(ids), st.sampled_from(ids))
    graph: Graph = {id: [] for id in ids}
    for one, other in draw(st.lists(pairs, unique=True, max_size=20)):
        before, after = (one, other) if cycles or ranks[one] < ranks[other] else (other, one)
        if one != other and before not in graph[after]:
            graph[after].append(before)
    return graph


def order_of(graph: Graph) -> list[str]:
    """The canonical order by its definition: again and again the first declared task that can come next."""
    order: list[str] = []
    while True:
        free = [id for id, needed in graph.items() if id not in order and set(needed) <= set(order)]
        if not free:
            return order
        order.append(free[0])


def closure(graph: Graph, id: str) -> set[str]:
    found: set[str] = set()
    for needed in graph[id]:
        found |= {needed} | closure(graph, needed)
    return found


def reverse(graph: Graph) -> Graph:
    return {id: [other for other in graph if id in graph[other]] for id in graph}


def depth(graph: Graph, id: str) -> int:
    return max((1 + depth(graph, needed) for needed in graph[id]), default=0)


@given(graphs())
@settings(max_examples=300)
def test_a_dag_agrees_with_the_oracle(graph: Graph) -> None:
    dag, after = make(graph), reverse(graph)
    assert list(dag.ids) == order_of(graph)
    assert dag.index == {id: place for place, id in enumerate(dag.ids)}
    assert dag.roots == tuple(id for id in dag.ids if not graph[id])
    assert dag.leaves == tuple(id for id in dag.ids if not after[id])
    assert {id: depth(graph, id) for id in graph} == {
        id: level for level, row in enumerate(dag.levels) for id in row
    }
    for place, id in enumerate(dag.ids):
        assert dag.tasks[place].id == id
        assert {dag.ids[i] for i in dag.dependencies[place]} == set(graph[id])
        assert {dag.ids[i] for i in dag.dependents[place]} == set(after[id])
        assert {dag.ids[i] for i in range(len(dag)) if dag.ancestor_masks[place] >> i & 1} == closure(
            graph, id
        )
        assert dag.ancestors(id) == tuple(other for other in dag.ids if other in closure(graph, id))
        assert dag.descendants(id) == tuple(other for other in dag.ids if other in closure(after, id))
    assert [(edge.source, edge.target) for edge in dag.edges] == [
        (source, target) for target in dag.ids for source in dag.ids if source in graph[target]
    ]


@given(graphs(), st.data())
def test_a_subgraph_holds_what_was_named_and_all_that_it_needs(graph: Graph, data: st.DataObject) -> None:
    dag = make(graph)
    named = data.draw(st.lists(st.sampled_from(dag.ids), min_size=1))
    kept = set(named).union(*(closure(graph, id) for id in named))
    part = dag.subgraph(named)
    assert list(part.ids) == order_of({id: needed for id, needed in graph.items() if id in kept})
    assert part.ids == tuple(id for id in dag.ids if id in kept)


@given(graphs(cycles=True))
@settings(max_examples=300)
def test_exactly_the_graphs_with_a_cycle_are_refused_and_the_cycle_is_real(graph: Graph) -> None:
    if len(order_of(graph)) == len(graph):
        assert len(make(graph)) == len(graph)
        return
    with pytest.raises(WorkflowError) as refused:
        make(graph)
    way = str(refused.value).split("in a cycle, ")[1].split(":")[0].split(" → ")
    assert way[0] == way[-1]
    assert len(set(way)) == len(way) - 1
    assert all(before in graph[after] for before, after in pairwise(way))


def test_the_order_does_not_depend_on_how_dependencies_are_listed() -> None:
    draw = random.Random(7)
    graph = {f"t{i}": [f"t{j}" for j in range(i) if draw.random() < 0.3] for i in range(40)}
    shuffled = {id: draw.sample(needed, len(needed)) for id, needed in graph.items()}
    assert make(graph).dependencies == make(shuffled).dependencies


CHAIN = {f"t{i}": [f"t{i - 1}"] if i else [] for i in range(10_000)}
FAN: Graph = {
    "first": [],
    **{f"t{i}": ["first"] for i in range(9_998)},
    "last": [f"t{i}" for i in range(9_998)],
}


@pytest.mark.parametrize(
    ("graph", "levels", "width"), [(CHAIN, 10_000, 1), (FAN, 3, 9_998)], ids=["chain", "fan"]
)
def test_ten_thousand_tasks_exhaust_no_stack(graph: Graph, levels: int, width: int) -> None:
    dag = make(graph)
    assert (dag.metadata.levels, dag.metadata.width) == (levels, width)
    assert len(dag.ancestors(dag.leaves[0])) == len(dag.descendants(dag.roots[0])) == 9_999
    assert dag.subgraph(dag.leaves).ids == dag.ids
    assert dag.text().count("\n") == 10_001


def test_a_cycle_of_five_thousand_tasks_is_found_and_told_in_short() -> None:
    ring = {f"t{i}": [f"t{i - 1}" if i else "t4999"] for i in range(5_000)}
    with pytest.raises(WorkflowError, match=r"t0 → t1 → .* → \(4990 more\) → t0: take out"):
        make(ring)


def test_many_missing_dependencies_are_told_in_short() -> None:
    with pytest.raises(WorkflowError) as refused:
        make({f"t{i}": [f"missing{i}"] for i in range(3_000)})
    assert str(refused.value).splitlines()[-1] == "and 2990 more"


PIPELINE: list[tuple[str, dict[str, Any]]] = [
    ("fetch", {"tags": ["io"], "description": "From the source."}),
    ("cache", {"dependencies": ["fetch"], "trigger_rules": task_failed("fetch")}),
    ("work", {"dependencies": ["fetch", "cache"]}),
    ("report", {"dependencies": ["work", "cache"], "optional": True, "trigger_rules": none_of(
        task_success("cache"), task_skipped("cache"), context_value("n", ">", 1))}),
]  # fmt: skip


@pytest.fixture
def pipeline() -> Dag:
    return Dag("etl", [Task(body, id=id, **options) for id, options in PIPELINE])


def test_a_dag_as_data(pipeline: Dag) -> None:
    assert pipeline.metadata == DagMetadata("etl", tasks=4, edges=5, levels=4, width=1)
    assert pipeline.nodes[0] == DagNode("fetch", 0, "From the source.", ("io",), "", False, False)
    assert pipeline.nodes[1].rule == "task_failed('fetch')"
    assert pipeline.edges == (
        DagEdge("fetch", "cache", "failed"),
        DagEdge("fetch", "work", ""),
        DagEdge("cache", "work", ""),
        DagEdge("cache", "report", "not success, not skipped"),
        DagEdge("work", "report", ""),
    )


def test_a_dag_as_json(pipeline: Dag) -> None:
    stored = json.loads(pipeline.to_json())
    assert stored["name"] == "etl"
    assert [task["id"] for task in stored["tasks"]] == ["fetch", "cache", "work", "report"]
    assert stored["tasks"][1] == {
        "id": "cache",
        "dependencies": ["fetch"],
        "rule": {"type": "TaskFailed", "task_name": "fetch"},
        "optional": False,
        "recovers": False,
    }


def test_a_dag_as_text(pipeline: Dag) -> None:
    assert pipeline.text().splitlines() == [
        "etl: 4 tasks, 5 dependencies, 4 levels",
        "  0  fetch",
        "  1  cache   ← fetch (failed)",
        "  2  work    ← fetch, cache",
        "  3  report  ← cache (not success, not skipped), work  [optional]",
    ]


def test_a_dag_as_mermaid(pipeline: Dag) -> None:
    assert pipeline.mermaid().splitlines() == [
        "flowchart TD",
        '    t0["fetch"]',
        '    t1{{"cache"}}',
        '    t2["work"]',
        '    t3{{"report"}}:::optional',
        '    t0 -->|"failed"| t1',
        "    t0 --> t2",
        "    t1 --> t2",
        '    t1 -->|"not success, not skipped"| t3',
        "    t2 --> t3",
        "    classDef optional stroke-dasharray: 4 4",
    ]
    assert pipeline._repr_markdown_() == f"```mermaid\n{pipeline.mermaid()}```\n"


def test_a_dag_as_dot(pipeline: Dag) -> None:
    lines = pipeline.dot().splitlines()
    assert lines[0] == 'digraph "etl" {'
    assert '    "report" [shape=hexagon, style=dashed];' in lines
    assert '    "fetch" -> "cache" [label="failed"];' in lines
    assert lines[-1] == "}"


@pytest.mark.parametrize("ask", [Dag.ancestors, Dag.descendants, lambda dag, id: dag.subgraph(["work", id])])
def test_an_unknown_task_is_refused_with_its_like(pipeline: Dag, ask: Any) -> None:
    with pytest.raises(SubgraphError, match=r"workflow 'etl' has no task 'fetsh'\. Did you mean 'fetch'\?"):
        ask(pipeline, "fetsh")


def test_a_subgraph_of_nothing_is_refused(pipeline: Dag) -> None:
    with pytest.raises(SubgraphError, match="at least one task"):
        pipeline.subgraph([])


def test_tasks_may_be_asked_for_by_object(pipeline: Dag) -> None:
    work = pipeline.tasks[2]
    assert pipeline.ancestors(work) == ("fetch", "cache")
    assert pipeline.subgraph([work]).ids == pipeline.subgraph(work).ids == ("fetch", "cache", "work")
    assert work in pipeline
    assert "work" in pipeline
    assert "other" not in pipeline
