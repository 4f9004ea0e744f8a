"""Durable workflows inside a Python application: no broker, nothing to deploy, on SQLite or PostgreSQL.

What most programs need is here. The rest is where its name says: every error in `cloacina.errors`, backoffs
and transient types in `cloacina.model.retry`, rule values in `cloacina.model.rules`, what calls return in
`cloacina.model.result`, payload codecs in `cloacina.store.payloads`, routing rules in `cloacina.model.routing`,
`restore` in `cloacina.backup`, the check before a deploy in `cloacina.versions`, and the transaction that a body
can have on PostgreSQL in `cloacina.transaction`.

What runs workflows is loaded when it is first asked for: a module that defines them costs its importer
neither asyncio nor SQLite.
"""

from typing import TYPE_CHECKING

from cloacina.errors import (
    CloacinaError,
    ContextError,
    ExecutionFailed,
    IdempotencyConflict,
    PermanentError,
    QueueFull,
    ResultTimeout,
    StoreError,
    TaskError,
    TransientError,
    ValidationError,
    WorkflowError,
)
from cloacina.model.builder import WorkflowBuilder
from cloacina.model.context.context import Context
from cloacina.model.context.handle import TaskHandle
from cloacina.model.context.keys import Key
from cloacina.model.result import ExecutionResult, TaskResult
from cloacina.model.retry import Exponential, RetryPolicy
from cloacina.model.rules import (
    all_of,
    always,
    any_of,
    context_value,
    none_of,
    task_failed,
    task_skipped,
    task_success,
)
from cloacina.model.status import ExecutionStatus, TaskState
from cloacina.model.task import Task, task
from cloacina.model.workflow import Workflow
from cloacina.observe.logs import init_logging
from cloacina.settings import Settings
from cloacina.variables import var, var_or

if TYPE_CHECKING:
    from cloacina.blocking import BlockingClient, BlockingRunner
    from cloacina.client import Client
    from cloacina.desk import ExecutionHandle
    from cloacina.engine.executors.callbacks import CallbackInfo
    from cloacina.runner import Runner, run
    from cloacina.store.sqlite.copies.readonly import open_readonly

    __version__: str
else:

    def __getattr__(name: str) -> object:
        if name == "__version__":
            from importlib.metadata import version

            return version("cloacina")
        if name not in __all__:
            raise AttributeError(f"module 'cloacina' has no attribute {name!r}")
        from cloacina.blocking import BlockingClient, BlockingRunner
        from cloacina.client import Client
        from cloacina.desk import ExecutionHandle
        from cloacina.engine.executors.callbacks import CallbackInfo
        from cloacina.runner import Runner, run
        from cloacina.store.sqlite.copies.readonly import open_readonly

        found = (
            BlockingClient,
            BlockingRunner,
            CallbackInfo,
            Client,
            ExecutionHandle,
            Runner,
            open_readonly,
            run,
        )
        globals().update({one.__name__: one for one in found})
        return globals()[name]

    def __dir__() -> list[str]:
        return __all__


__all__ = [
    "BlockingClient",
    "BlockingRunner",
    "CallbackInfo",
    "Client",
    "CloacinaError",
    "Context",
    "ContextError",
    "ExecutionFailed",
    "ExecutionHandle",
    "ExecutionResult",
    "ExecutionStatus",
    "Exponential",
    "IdempotencyConflict",
    "Key",
    "PermanentError",
    "QueueFull",
    "ResultTimeout",
    "RetryPolicy",
    "Runner",
    "Settings",
    "StoreError",
    "Task",
    "TaskError",
    "TaskHandle",
    "TaskResult",
    "TaskState",
    "TransientError",
    "ValidationError",
    "Workflow",
    "WorkflowBuilder",
    "WorkflowError",
    "all_of",
    "always",
    "any_of",
    "context_value",
    "init_logging",
    "none_of",
    "open_readonly",
    "run",
    "task",
    "task_failed",
    "task_skipped",
    "task_success",
    "var",
    "var_or",
]
