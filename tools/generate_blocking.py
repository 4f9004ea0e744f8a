"""Write ``src/cloacina/blocking.py``: the blocking twins of what ``src/cloacina/runner.py`` defines.

Run ``python tools/generate_blocking.py`` after every change of the runner's public methods. Every public
method and property of `Runner` gets a twin with the same parameters, whose body is one call through the
portal; `ExecutionHandle` is copied without its ``await``. A test compares the file with what this writes.
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
SOURCE = ROOT / "src" / "cloacina" / "runner.py"
TARGET = ROOT / "src" / "cloacina" / "blocking.py"

TWINS = {"ExecutionHandle": "BlockingExecutionHandle", "Runner": "BlockingRunner"}
WITHOUT_TWIN = {"blocking"}
"""Public, but of no use on the twin."""
VERBS = {"start": "open", "shutdown": "close"}
"""Methods that begin and end the portal itself, which all others only `call`."""

Function = ast.FunctionDef | ast.AsyncFunctionDef

HEAD = '''"""The blocking runner: what `Runner` offers, for scripts, Flask, Django, notebooks and threads.

Written by ``tools/generate_blocking.py`` from the asynchronous source: change that, not this file.
"""

from __future__ import annotations

'''

RUNNER = '''
class BlockingRunner:
    """{doc}"""

    def __init__({parameters}) -> None:
        self._runner = Runner({arguments})
        self._portal: Portal = OwnLoop(partial(self._runner.shutdown, 0.0))

    @classmethod
    def beside(cls, runner: Runner, loop: asyncio.AbstractEventLoop) -> BlockingRunner:
        """The calls of ``runner``, which lives on ``loop``, for other threads: see `Runner.blocking`."""
        twin = cls.__new__(cls)
        twin._runner = runner
        twin._portal = Portal(loop)
        return twin

    def __enter__(self) -> BlockingRunner:
        self.start()
        return self

    def __exit__({exit_parameters}) -> None:
        self._portal.leave(kind, self._runner.shutdown)

    def __repr__(self) -> str:
        return f"Blocking{{self._runner!r}}"

'''

RUNNER_DOC = """`Runner` for code that blocks: scripts, Flask, Django, notebooks.

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


def generate(source: str) -> str:
    """The text of ``blocking.py``, before formatting, for the text of ``runner.py``."""
    tree = ast.parse(source)
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    text = _handle(classes["ExecutionHandle"]) + "\n\n" + _runner(classes["Runner"])
    return HEAD + _imports(tree, text) + "\n\n" + text


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


def _runner(node: ast.ClassDef) -> str:
    functions = {item.name: item for item in node.body if isinstance(item, Function)}
    made, left = functions["__init__"], functions["__aexit__"]
    head = RUNNER.format(
        doc=_indented(RUNNER_DOC.format(doc=_adjusted(_docstring(node)))),
        parameters=_parameters(made),
        arguments=_arguments(made),
        exit_parameters=_parameters(left),
    )
    public = [item for name, item in functions.items() if not name.startswith("_")]
    return head + "\n".join(_twin(item) for item in public if item.name not in WITHOUT_TWIN)


def _twin(node: Function) -> str:
    """One method or property of the runner, as a call through the portal."""
    assert node.returns is not None, f"{node.name} has no return annotation"
    returns = ast.unparse(_Blocking().visit(copy.deepcopy(node.returns)))
    lines = [
        *(f"@{ast.unparse(decorator)}" for decorator in node.decorator_list),
        f"def {node.name}({_parameters(node)}) -> {returns}:",
        f'    """{_indented(_quoted(_adjusted(_docstring(node))))}"""',
        *(f"    {line}" for line in _body(node)),
    ]
    return "".join(f"    {line}\n" for line in lines)


def _body(node: Function) -> Iterator[str]:
    assert node.returns is not None
    arguments = _arguments(node)
    if isinstance(node, ast.AsyncFunctionDef):
        given = f", {arguments}" if arguments else ""
        call = f"self._portal.{VERBS.get(node.name, 'call')}(self._runner.{node.name}{given})"
    elif node.decorator_list:
        call = f"self._portal.read(lambda: self._runner.{node.name})"
    else:
        call = f"self._portal.read(lambda: self._runner.{node.name}({arguments}))"
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


def _imports(tree: ast.Module, text: str) -> str:
    """The imports that ``text`` needs: those of the source, what the source defines, and our own."""
    used = {node.id for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)}
    lines: list[str] = []
    for node in [*tree.body, *ast.parse(IMPORTS).body]:
        if isinstance(node, ast.Import | ast.ImportFrom):
            kept = [alias for alias in node.names if (alias.asname or alias.name) in used]
            if kept:
                again = copy.copy(node)
                again.names = kept
                lines.append(ast.unparse(again))
    own = sorted(used & _defined(tree))
    return "\n".join(dict.fromkeys([*lines, f"from cloacina.runner import {', '.join(own)}"]))


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
    given += [f"{argument.arg}={argument.arg}" for argument in node.args.kwonlyargs]
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
    TARGET.write_text(formatted(generate(SOURCE.read_text("utf-8"))), "utf-8")
