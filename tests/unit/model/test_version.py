"""The version: what changes it, what does not, and that it is the same everywhere."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cloacina.model.context.context import Context
from cloacina.model.context.keys import Key
from cloacina.model.retry import Exponential, RetryPolicy
from cloacina.model.rules import context_value, task_failed, task_success
from cloacina.model.task import task
from cloacina.model.workflow import Workflow
from support.cell import run_cell, version_of_cell

BODY = '''
LIMIT = 3

def helper(x):
    return x + 1

def body(ctx, scale=2, *, unit="kg"):
    """Weigh."""
    total: int = 0
    for row in ctx["rows"]:  # each one
        if row["n"] > 10 and not row.get("gone"):
            total += helper(row["n"]) * scale
    ctx["total"] = f"{total:>10.2f} {unit!r}"
    try:
        label = {key: -value for key, value in ctx.items()}
    except (KeyError, ValueError) as error:
        raise RuntimeError("bad") from error
    return None
'''

SAME: dict[str, tuple[str, str]] = {
    "comment": ("# each one", "# every single one"),
    "docstring": ('    """Weigh."""\n', '    """Weigh, and tell.\n\n    More.\n    """\n'),
    "no docstring": ('    """Weigh."""\n', ""),
    "blank lines": ("    try:", "\n\n    try:"),
    "place in the file": ("def helper", "\n\n\nOTHER = 1\n\ndef helper"),
    "layout": ('row["n"] > 10 and', '(row["n"]\n            > 10)  and'),
    "quotes": ('ctx["rows"]', "ctx['rows']"),
    "number spelling": ("> 10 ", "> 0x0_A "),
    "return annotation": ('unit="kg"):', 'unit="kg") -> None:'),
    "parameter annotation": ("body(ctx, scale=2,", 'body(ctx: "Context", scale: int = 2,'),
    "local annotation": ("total: int = 0", "total = 0"),
    "bare local annotation": ("    try:", "    label: dict\n    try:"),
    "a pass": ("    try:", "    pass\n    try:"),
    "an ellipsis": ("    try:", "    ...\n    try:"),
    "helper": ("return x + 1", "return x + 2"),
    "global": ("LIMIT = 3", "LIMIT = 4"),
    "f-string quotes": ('f"{total:>10.2f} {unit!r}"', "f'{total:>10.2f} {unit!r}'"),
    "f-string pieces": ('f"{total:>10.2f} {unit!r}"', 'f"{total:>10.2f}" " " f"{unit!r}"'),
    "string pieces": ('"bad"', '"b" "ad"'),
    "unicode prefix": ('"bad"', 'u"bad"'),
    "decorator": ("def body", "from functools import wraps\n@(lambda fn: fn)\ndef body"),
    "decorator on two lines": ("def body", "@(\n    lambda fn: fn\n)\ndef body"),
    "its own name": ("def body(", "def other(ctx): ...\ndef weigh("),
}

OTHER: dict[str, tuple[str, str]] = {
    "number": ("> 10 ", "> 11 "),
    "kind of number": ("> 10 ", "> 10.0 "),
    "text": ('"rows"', '"lines"'),
    "operator": ("total +=", "total -="),
    "comparison": ("> 10", ">= 10"),
    "negation": ("not row.get", "row.get"),
    "sign": ("-value", "+value"),
    "name": ("helper(row", "LIMIT(row"),
    "attribute": ("ctx.items()", "ctx.values()"),
    "statement": ("    return None\n", "    print(total)\n    return None\n"),
    "order": ("total: int = 0\n", "total: int = 1\n    total = 0\n"),
    "nesting": ('    ctx["total"] =', '        ctx["total"] ='),
    "default": ("scale=2", "scale=3"),
    "default of a keyword": ('unit="kg"', 'unit="g"'),
    "parameter": ("def body(ctx, scale=2,", "def body(ctx, other=1, scale=2,"),
    "kind of parameter": ("scale=2, *, unit", "scale=2, unit"),
    "f-string text": ("{total:>10.2f} ", "{total:>10.2f}, "),
    "f-string format": (">10.2f", ">10.3f"),
    "f-string conversion": ("!r}", "!s}"),
    "exception": ("KeyError, ", "OSError, "),
    "cause": (" from error", " from None"),
    "async": ("def body", "async def body"),
    "decorator of a nested function": ("    try:", "    @staticmethod\n    def inner(): ...\n    try:"),
    "field of a nested class": ("    try:", "    class Row:\n        n: int\n    try:"),
}


@pytest.mark.parametrize("change", SAME.values(), ids=SAME)
def test_what_does_not_change_a_version(change: tuple[str, str]) -> None:
    assert BODY.count(change[0]) == 1
    body = "weigh" if "weigh" in change[1] else "body"
    assert version_of_cell(BODY.replace(*change), body) == version_of_cell(BODY)


@pytest.mark.parametrize("change", OTHER.values(), ids=OTHER)
def test_what_changes_a_version(change: tuple[str, str]) -> None:
    assert BODY.count(change[0]) == 1
    assert version_of_cell(BODY.replace(*change)) != version_of_cell(BODY)


def test_nested_classes_keep_their_fields_apart() -> None:
    with_field = "def body(ctx):\n    class Row:\n        {}: int\n    Row()\n"
    assert version_of_cell(with_field.format("n")) != version_of_cell(with_field.format("m"))


def step(ctx: Context) -> None: ...
def other(ctx: Context) -> None:
    ctx["other"] = 1


def slow(failures: int) -> float:
    return float(failures)


def slower(failures: int) -> float:
    return failures * 2.0


def add(one: int, two: int) -> int:
    return one + two


def etl(name: str = "w", first: Any = None, second: Any = None, **options: Any) -> Workflow:
    one = {"id": "one", **(first or {})}
    two = {"id": "two", "dependencies": [one["id"]], **(second or {})}
    return Workflow(name, [task(step, **one), task(step, **two)], **options)


RULE = {"trigger_rules": task_failed("one")}
SETTINGS: dict[str, Workflow] = {
    "nothing": etl(),
    "name": etl("v"),
    "id": etl(first={"id": "first"}),
    "dependency": etl(second={"dependencies": []}),
    "body": Workflow("w", [task(step, id="one"), task(other, id="two", dependencies=["one"])]),
    "rule": etl(second=RULE),
    "other rule": etl(second={"trigger_rules": task_success("one")}),
    "value in a rule": etl(second={"trigger_rules": context_value("n", ">", 1)}),
    "other value in a rule": etl(second={"trigger_rules": context_value("n", ">", 1.0)}),
    "retry": etl(first={"retry": 4}),
    "no retry": etl(first={"retry": False}),
    "retry of all": etl(retry=4),
    "delay": etl(first={"retry_delay_ms": 1}),
    "cap": etl(first={"retry_max_delay_ms": 2000}),
    "backoff": etl(first={"retry_backoff": "linear"}),
    "base": etl(first={"retry_backoff": Exponential(3)}),
    "backoff function": etl(first={"retry_backoff": slow}),
    "other backoff function": etl(first={"retry_backoff": slower}),
    "jitter": etl(first={"retry_jitter": False}),
    "retry on": etl(first={"retry_condition": "transient"}),
    "retry on types": etl(first={"retry_condition": (OSError, KeyError)}),
    "retry on one type": etl(first={"retry_condition": OSError}),
    "timeout": etl(first={"timeout": 5}),
    "timeout of all": etl(timeout=5),
    "optional": etl(first={"optional": True}),
    "recovers": etl(second={**RULE, "recovers": True}),
    "overlap": etl(first={"overlap": True}),
    "merge": etl(keys=[Key("n", int, merge=add)]),
    "other merge": etl(keys=[Key("n", int, merge=max)]),
    "merge of another key": etl(keys=[Key("m", int, merge=add)]),
    "conflicts": etl(on_conflict="error"),
}


def test_each_setting_that_means_something_has_a_version_of_its_own() -> None:
    versions: dict[str, str] = {}
    for name, workflow in SETTINGS.items():
        assert not workflow.unversioned, name
        assert versions.setdefault(workflow.version, name) == name


def _told(ctx: Context, info: object) -> None: ...


MEANINGLESS: list[Workflow] = [
    etl(description="All.", tags=["a"], on_success=_told, on_failure=_told),
    etl(first={"description": "All.", "tags": ["a"], "on_success": _told, "on_failure": _told}),
    etl(keys=[Key("n", int)]),
    etl(first={"retry": RetryPolicy()}, retry=3),
    Workflow("w", [task(step, id="two", dependencies=["one"]), task(step, id="one")]),
]


@pytest.mark.parametrize("workflow", MEANINGLESS)
def test_what_means_nothing_is_left_out(workflow: Workflow) -> None:
    assert workflow.version == SETTINGS["nothing"].version


def test_equal_meanings_have_equal_versions() -> None:
    def dependent(needed: list[str], on: Any) -> str:
        tasks = [task(step, id=id) for id in "ab"]
        policy = RetryPolicy(retry_on=on)
        return Workflow("w", [*tasks, task(step, id="c", dependencies=needed, retry=policy)]).version

    assert dependent(["a", "b"], (OSError, KeyError)) == dependent(["b", "a"], (KeyError, OSError))
    assert etl(retry=1).version == etl(retry=RetryPolicy(9, retry_on="never")).version


def test_the_order_of_declaration_counts_only_where_it_decides_merges() -> None:
    def declared(*ids: str) -> str:
        return Workflow("w", [task(step, id=id) for id in ids]).version

    assert declared("a", "b") != declared("b", "a")


GOLDEN = '''
import operator
from functools import partial, wraps

from cloacina.model.context.keys import Key
from cloacina.model.retry import Exponential, RetryPolicy
from cloacina.model.rules import all_of, context_value, task_failed, task_success
from cloacina.model.workflow import Workflow

workflow = Workflow("golden", timeout=3600, keys=[Key("n", int, merge=operator.add)], on_conflict="error")


def logged(fn):
    @wraps(fn)
    async def wrapper(*args, **kwargs):
        print("before", fn.__name__)
        return await fn(*args, **kwargs)

    return wrapper


@workflow.task(retry=RetryPolicy(5, 0.5, 60, Exponential(3, 0.1), False, (OSError, KeyError)))
@logged
async def fetch(ctx, *, limit: "int" = 1_000, ratio=1.5, words=("ä", b"x", None)) -> None:
    """Fetch it."""
    async with ctx.session() as session:
        rows = [row async for row in session if (n := row.n) > limit and not row.gone]
    match rows:
        case [first, *_] if first:
            ctx["first"] = f"{first!r:>{limit}} of {len(rows):,}: {'{'}{n}"
        case {"none": None, **rest}:
            ctx["rest"] = rest
        case str() | None | 3 as other:
            ctx["rest"] = other
    global counted
    counted = lambda x, /, y=2, *z, **k: (x, *z, -y ** 2, ~x, x if y else z, x @ y)


@workflow.task(dependencies=[fetch], trigger_rules=task_failed(fetch), recovers=True)
def cached(ctx):
    try:
        del ctx["x"][1:2, ::3], ctx["y"]
    except* (ValueError, TypeError) as group:
        raise SystemExit from group
    else:
        yield_ = {**ctx, "a": {1, 2}, "b": {k: v for k, v in ctx.items()}}
    finally:
        assert yield_, "nothing"
    while True:
        from os import path as p, sep
        break


def load(ctx, table, size=10**20):
    class Row(dict, metaclass=type):
        n: int
        m: int = 3

        @property
        def both(self):
            return self.n + self.m

    def gen():
        x = yield
        yield from (Row() for _ in range(size))

    ctx[table] += list(gen())


for table in ("users", "orders"):
    workflow.task(partial(load, table=table), id=f"load_{table}", dependencies=[fetch, "cached"])


@workflow.task(
    dependencies=["load_users", "load_orders"],
    trigger_rules=all_of(task_success("load_users"), context_value("n", ">", 80)),
    optional=True,
    retry_backoff=lambda failures: failures * 2,
)
def report(ctx): ...
'''


def test_the_version_of_an_unchanged_workflow_never_changes() -> None:
    """A new hash here means that every deployed workflow gets a new version: raise the format's number, too."""
    workflow = run_cell(GOLDEN)["workflow"]
    assert not workflow.unversioned
    assert workflow.version == "d3b8f592533745d0c84eb2baab6490ff"


def test_equal_in_every_process(tmp_path: Path) -> None:
    (tmp_path / "golden.py").write_text(GOLDEN + 'if __name__ == "__main__":\n    print(workflow.version)\n')
    ways = [["golden.py"], ["-c", "import golden; print(golden.workflow.version)"], ["-OO", "golden.py"]]
    versions = set()
    for seed, way in enumerate(ways):
        where = os.pathsep.join([str(tmp_path), *sys.path])
        process = subprocess.run(
            [sys.executable, *way],
            cwd=tmp_path,
            env={**os.environ, "PYTHONHASHSEED": str(seed), "PYTHONPATH": where},
            capture_output=True,
            text=True,
            check=True,
        )
        versions.add(process.stdout.strip())
    assert versions == {run_cell(GOLDEN)["workflow"].version}
