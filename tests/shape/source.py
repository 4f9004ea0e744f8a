"""The package's own source, parsed once, for the tests of its shape."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from operator import attrgetter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "cloacina"

Function = ast.FunctionDef | ast.AsyncFunctionDef
Documented = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Source:
    """One file of the package."""

    path: Path

    @property
    def name(self) -> str:
        """The path below the package: ``store/rows.py``."""
        return self.path.relative_to(PACKAGE).as_posix()

    @cached_property
    def text(self) -> str:
        return self.path.read_text("utf-8")

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    def imports(self) -> set[str]:
        """The top-level packages that it imports, local and type-only imports too."""
        found: set[str] = set()
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found.add((node.module or "").partition(".")[0])
        return found

    def functions(self) -> Iterator[Function]:
        """Every function and method, nested ones too."""
        return (node for node in ast.walk(self.tree) if isinstance(node, Function))

    def texts(self) -> Iterator[tuple[int, str]]:
        """Every text in the code with its line, docstrings excepted; holes of f-strings read ``?``."""
        apart = {id(node) for node in _docstrings(self.tree)}
        found: list[ast.Constant] = []
        for node in ast.walk(self.tree):
            if isinstance(node, ast.JoinedStr):
                apart |= {id(value) for value in node.values}
                parts = [v.value if isinstance(v, ast.Constant) else "?" for v in node.values]
                yield node.lineno, "".join(str(part) for part in parts)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node)
        yield from ((node.lineno, str(node.value)) for node in found if id(node) not in apart)

    def public(self) -> Iterator[tuple[str, Documented]]:
        """Public classes, functions and methods with their dotted names; of a protocol, the class alone."""
        yield from _public(self.tree.body, "")

    def load(self, name: str) -> object:
        """The class, function or method with a dotted name."""
        module = self.path.relative_to(PACKAGE.parent).with_suffix("").as_posix().replace("/", ".")
        return attrgetter(name)(import_module(module.removesuffix(".__init__")))


def _public(body: list[ast.stmt], prefix: str) -> Iterator[tuple[str, Documented]]:
    for node in body:
        if isinstance(node, Documented) and not node.name.startswith("_"):
            yield prefix + node.name, node
            if isinstance(node, ast.ClassDef) and "Protocol" not in {
                ast.unparse(base) for base in node.bases
            }:
                yield from _public(node.body, f"{prefix}{node.name}.")


def _docstrings(tree: ast.Module) -> Iterator[ast.Constant]:
    """Texts that stand alone as statements: docstrings, and the texts below attributes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            yield node.value


SOURCES = tuple(Source(path) for path in sorted(PACKAGE.rglob("*.py")))
