"""Write ``src/cloacina/blocking.py``: the blocking twins of `Runner`, `Client` and what they have in common.

Run ``python tools/generate_blocking.py`` after every change of their public methods. Every public method and
property of `Desk`, `Runner` and `Client` gets a twin with the same parameters, whose body is one call through
the portal; `ExecutionHandle` is copied without its ``await``. A test compares the file with what this writes.
"""

from __future__ import annotations

import ast
import copy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "cloacina"
SOURCES = ("desk", "runner", "client")
TARGET = PACKAGE / "blocking.py"

TWINS = {name: f"Blocking{name}" for name in ("ExecutionHandle", "Desk", "Runner", "Client")}
WITHOUT_TWIN = {"blocking", "serve"}
"""Public, but of no use on the twin."""
VERBS = {"start": "open", "shutdown": "close"}
"""Methods that begin and end the portal itself, which all others only `call`."""
LENT = "connection"
"""The parameter that the portal hands on by itself, since what is done on it is done on the caller's thread."""

Function = ast.FunctionDef | ast.AsyncFunctionDef

HEAD = '''"""The blocking runner and client: what the others offer, for scripts, Flask, Django, notebooks and threads.

Written by ``tools/generate_blocking.py`` from the asynchronous sources: change those, not this file.
"""

from __future__ import annotations

'''

DESK = '''
class BlockingDesk:
    """{doc}"""

    _portal: Portal
    _desk: Desk

'''

OPENED = '''
class Blocking{name}(BlockingDesk):
    """{doc}"""

    def __init__({parameters}) -> None:
        self._own = self._desk = {name}({arguments})
        self._portal = OwnLoop({at_exit})
{beside}
    def __enter__(self) -> Blocking{name}:
        self.start()
        return self

    def __exit__({exit_parameters}) -> None:
        self._portal.leave(kind, self._own.shutdown)

    def __repr__(self) -> str:
        return f"Blocking{{self._own!r}}"

'''

BESIDE = '''
    @classmethod
    def beside(cls, runner: Runner, loop: asyncio.AbstractEventLoop) -> BlockingRunner:
        """The calls of ``runner``, which lives on ``loop``, for other threads: see `Runner.blocking`."""
        twin = cls.__new__(cls)
        twin._own = twin._desk = runner
        twin._portal = Portal(loop)
        return twin
'''

OPENED_DOC = """`{name}` for code that blocks: scripts, Flask, Django, notebooks.

{doc}

Its event loop runs on a thread of its own, so it may be used from any thread and inside a running loop, but
not by ``async def`` bodies: every call on its own loop raises `WrongThread`. After a fork, make a new one.
A call that is interrupted (Ctrl-C) returns at once, and the execution goes on.
"""

IMPORTS = """
import asyncio
from functools import partial
from cloacina.portal import OwnLoop, Portal
"""


def generate(sources: dict[str, str]) -> str:
    """The text of ``blocking.py``, before formatting, for the texts of its sources by module."""
    trees = {module: ast.parse(sources[module]) for module in SOURCES}
    classes = {
        node.name: node for tree in trees.values() for node in tree.body if isinstance(node, ast.ClassDef)
    }
    parts = [
        _handle(classes["ExecutionHandle"]),
        _desk(classes["Desk"]),
        _opened(classes["Runner"]),
        _opened(classes["Client"]),
    ]
    text = "\n\n".join(parts)
    return HEAD + _imports(trees, text) + "\n\n" + text


def read_sources() -> dict[str, str]:
    """The texts of the sources, by module."""
    return {module: (PACKAGE / f"{module}.py").read_text("utf-8") for module in SOURCES}


def formatted(text: str) -> str:
    """``text`` in the project's format."""
    command = [sys.executable, "-m", "ruff"]
    for step in (["check", "--select", "I", "--fix"], ["format"]):
        text = subprocess.run(
            [*command, *step, "--stdin-filename", str(TARGET), "-"],
            input=text, capture_output=True, text=True, check=True, cwd=ROOT,
        ).stdout  # fmt: skip
    return text


def _handle(node: ast.ClassDef) -> str:
    """The handle: the same class, whose methods call the blocking runner and so await nothing."""
    return ast.unparse(_Blocking().visit(copy.deepcopy(node)))


def _desk(node: ast.ClassDef) -> str:
    head = DESK.format(doc=_indented(_quoted(_adjusted(_docstring(node)))))
    return head + "\n".join(_twin(item, "_desk") for item in _public(node))


def _opened(node: ast.ClassDef) -> str:
    functions = {item.name: item for item in node.body if isinstance(item, Function)}
    made, left = functions["__init__"], functions["__aexit__"]
    runner = node.name == "Runner"
    head = OPENED.format(
        name=node.name,
        doc=_indented(OPENED_DOC.format(name=node.name, doc=_adjusted(_docstring(node)))),
        parameters=_parameters(made),
        arguments=_arguments(made),
        at_exit="partial(self._own.shutdown, 0.0)" if runner else 'self._own.shutdown, "client"',
        beside=BESIDE if runner else "",
        exit_parameters=_parameters(left),
    )
    return head + "\n".join(_twin(item, "_own") for item in _public(node))


def _public(node: ast.ClassDef) -> list[Function]:
    functions = [item for item in node.body if isinstance(item, Function)]
    return [item for item in functions if not item.name.startswith("_") and item.name not in WITHOUT_TWIN]


def _twin(node: Function, original: str) -> str:
    """One method or property of an original, as a call through the portal."""
    assert node.returns is not None, f"{node.name} has no return annotation"
    returns = ast.unparse(_Blocking().visit(copy.deepcopy(node.returns)))
    lines = [
        *(f"@{ast.unparse(decorator)}" for decorator in node.decorator_list),
        f"def {node.name}({_parameters(node)}) -> {returns}:",
        f'    """{_indented(_quoted(_adjusted(_docstring(node))))}"""',
        *(f"    {line}" for line in _body(node, f"self.{original}")),
    ]
    return "".join(f"    {line}\n" for line in lines)


def _body(node: Function, original: str) -> Iterator[str]:
    assert node.returns is not None
    arguments = _arguments(node)
    if isinstance(node, ast.AsyncFunctionDef):
        given = f", {arguments}" if arguments else ""
        if any(argument.arg == LENT for argument in node.args.kwonlyargs):
            call = f"self._portal.lend({LENT}, {original}.{node.name}{given})"
        else:
            call = f"self._portal.{VERBS.get(node.name, 'call')}({original}.{node.name}{given})"
    elif node.decorator_list:
        call = f"self._portal.read(lambda: {original}.{node.name})"
    else:
        call = f"self._portal.read(lambda: {original}.{node.name}({arguments}))"
    match ast.unparse(node.returns):
        case "None":
            yield call
        case "ExecutionHandle":
            yield f"return BlockingExecutionHandle(self, {call}.id)"
        case "list[ExecutionHandle]":
            yield f"handles = {call}"
            yield "return [BlockingExecutionHandle(self, handle.id) for handle in handles]"
        case _:
            yield f"return {call}"


class _Blocking(ast.NodeTransformer):
    """Takes the asynchrony out of a piece of source, and names the twins in place of the originals."""

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.FunctionDef:
        plain = ast.FunctionDef(**{field: getattr(node, field) for field in node._fields})
        return self.visit_FunctionDef(ast.copy_location(plain, node))

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        self.generic_visit(node)
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.ClassDef:
        node.name = TWINS[node.name]
        self.generic_visit(node)
        return node

    def visit_Await(self, node: ast.Await) -> Any:
        return self.visit(node.value)

    def visit_Name(self, node: ast.Name) -> ast.Name:
        return ast.Name(TWINS.get(node.id, node.id), node.ctx)

    def visit_Constant(self, node: ast.Constant) -> ast.Constant:
        if isinstance(node.value, str):
            return ast.Constant(_adjusted(node.value))
        return node


def _imports(trees: dict[str, ast.Module], text: str) -> str:
    """The imports that ``text`` needs: those of the sources, what the sources define, and our own."""
    used = {node.id for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)}
    defined = {name: module for module, tree in trees.items() for name in _defined(tree)}
    lines: list[str] = []
    for node in [*(node for tree in trees.values() for node in tree.body), *ast.parse(IMPORTS).body]:
        if isinstance(node, ast.Import | ast.ImportFrom):
            kept = [alias for alias in node.names if (alias.asname or alias.name) in used - {*defined}]
            if kept:
                again = copy.copy(node)
                again.names = kept
                lines.append(ast.unparse(again))
    lines += [f"from cloacina.{defined[name]} import {name}" for name in sorted(used & {*defined})]
    return "\n".join(dict.fromkeys(lines))


def _defined(tree: ast.Module) -> set[str]:
    names = {node.name for node in tree.body if isinstance(node, ast.ClassDef | Function)}
    for node in tree.body:
        if isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return names


def _parameters(node: Function) -> str:
    return ast.unparse(_Blocking().visit(copy.deepcopy(node.args)))


def _arguments(node: Function) -> str:
    """What a twin hands on: its own parameters, keyword-only ones by their names."""
    given = [argument.arg for argument in [*node.args.posonlyargs, *node.args.args] if argument.arg != "self"]
    if node.args.vararg is not None:
        given.append(f"*{node.args.vararg.arg}")
    given += [f"{argument.arg}={argument.arg}" for argument in node.args.kwonlyargs if argument.arg != LENT]
    return ", ".join(given)


def _docstring(node: ast.ClassDef | Function) -> str:
    text = ast.get_docstring(node)
    assert text, f"{node.name} has no docstring"
    return text


def _adjusted(text: str) -> str:
    """A docstring or message of the source, as it is true of the twin."""
    for name, twin in TWINS.items():
        text = text.replace(f"`{name}", f"`{twin}").replace(f"{name}(", f"{twin}(")
    return text.replace("async with", "with")


def _quoted(text: str) -> str:
    """A docstring's text; where it has several lines, its closing quotes stand on a line of their own."""
    return f"{text}\n" if "\n" in text else text


def _indented(text: str) -> str:
    return text.replace("\n", "\n    ").replace("    \n", "\n")


if __name__ == "__main__":
    TARGET.write_text(formatted(generate(read_sources())), "utf-8")
