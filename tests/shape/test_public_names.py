"""The names that users import: few, and the same in every release until the changelog says otherwise."""

from __future__ import annotations

import ast
import builtins
from importlib import metadata
from types import ModuleType

import pytest

import cloacina
from cloacina import errors
from shape.source import PACKAGE
from support.script import Script

PUBLIC = set(
    """
    BlockingClient BlockingRunner CallbackInfo Client CloacinaError Context ContextError ExecutionFailed ExecutionHandle
    ExecutionResult ExecutionStatus Exponential IdempotencyConflict Key PermanentError QueueFull
    ResultTimeout RetryPolicy Runner Settings StoreError Task TaskError TaskHandle TaskResult TaskState
    TransientError ValidationError Workflow WorkflowBuilder WorkflowError all_of always any_of
    context_value init_logging none_of open_readonly run task task_failed task_skipped task_success var var_or
    """.split()  # noqa: SIM905  # one name a line would fill a screen
)
SIGNALS = {"Unfit"}
"""Exceptions outside ``errors.py``: raised and caught inside the store, so that no user meets them."""


def test_the_public_names_are_these() -> None:
    assert cloacina.__all__ == sorted(PUBLIC)
    assert len(PUBLIC) <= 45


def test_everything_public_is_there_and_documented() -> None:
    for name in cloacina.__all__:
        assert (getattr(cloacina, name).__doc__ or "").strip(), name


def test_nothing_else_looks_public() -> None:
    assert dir(cloacina) == cloacina.__all__
    assert cloacina.Runner
    found = {
        name
        for name, value in vars(cloacina).items()
        if not name.startswith("_") and not isinstance(value, ModuleType)
    }
    assert found - {"TYPE_CHECKING"} == PUBLIC
    with pytest.raises(AttributeError, match="no attribute 'Pipeline'"):
        cloacina.Pipeline  # type: ignore[attr-defined]  # noqa: B018


def test_the_version_is_that_of_the_installed_package() -> None:
    assert cloacina.__version__ == metadata.version("cloacina")


def test_errors_are_one_tree_and_drawn_in_its_docstring() -> None:
    found = {name for name, value in vars(errors).items() if isinstance(value, type)}
    for name in found:
        assert issubclass(getattr(errors, name), errors.CloacinaError), name
        assert not hasattr(builtins, name)
        assert name in (errors.__doc__ or ""), name


def test_errors_are_defined_in_one_file() -> None:
    elsewhere: set[str] = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ClassDef) and path.name != "errors.py" and not node.name.startswith("_"):
                bases = {ast.unparse(base).rpartition(".")[2] for base in node.bases}
                if bases & {"Exception", "BaseException", *vars(errors)}:
                    elsewhere.add(node.name)
    assert elsewhere <= SIGNALS


def test_importing_starts_nothing(script: Script) -> None:
    """No thread, no file, no handler, no warning: effects come with a runner."""
    ended = script("""
        import logging, os, sys, threading
        import cloacina
        assert threading.active_count() == 1
        assert not logging.getLogger().handlers
        assert os.listdir() == ["script.py"], os.listdir()
        assert "sqlite3" not in sys.modules
        # What only defines workflows pays for no event loop and no database.
        @cloacina.task(retry=2)
        def step(ctx: cloacina.Context) -> None: ...
        assert cloacina.Workflow("w", [step]).version
        assert not {"asyncio", "apsw"} & set(sys.modules)
        assert cloacina.Runner and "apsw" in sys.modules and threading.active_count() == 1
    """)
    assert (ended.returncode, ended.stderr) == (0, "")
