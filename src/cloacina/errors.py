"""Every error that cloacina raises, as one tree.

::

    CloacinaError
    ├── ValidationError (ValueError)       an argument, name, URL or setting is refused
    │   ├── WorkflowError                  a workflow, task, rule or retry policy cannot be built
    │   │   ├── SubgraphError              a subgraph names tasks that the DAG does not have
    │   │   └── RegistrationError          a runner cannot take the workflow
    │   ├── UnknownWorkflow (LookupError)  no runner has ever registered a workflow of that name
    │   ├── InputError                     an execution's input does not fit the workflow's model
    │   └── VariableError (LookupError)    a variable is missing or its template cannot be filled
    ├── ContextError                       a value or key that a context refuses; ``path`` says where
    │   ├── ContextKeyError (KeyError)     the context has no such key
    │   └── ContextConflict                two branches wrote one key and the workflow forbids it
    ├── TaskError                          raised by bodies on purpose
    │   ├── TransientError                 worth another attempt
    │   │   ├── ProcessCrashed             the process of a body ended before the body did
    │   │   └── TransactionError           the transaction of a body came to nothing; what it wrote is rolled back
    │   └── PermanentError                 never retried
    │       └── CheckpointError            a checkpoint was used in a way that cannot be repeated
    ├── ExecutionError                     about one execution
    │   ├── ExecutionNotFound (LookupError)
    │   ├── ExecutionFailed                ended Failed or Cancelled, and the caller asked to be told
    │   ├── ExecutionParked                set aside with a reason; it does not go on by itself
    │   ├── IdempotencyConflict            the key belongs to another submission
    │   ├── ForkRefused                    the execution cannot be forked: it has not ended, or cannot be understood
    │   ├── ExecutionStalled               waits for something that no moving of a test's clock brings
    │   ├── CommandTimeout (TimeoutError)  the owner has not answered yet; the command stays in force
    │   └── ResultTimeout (TimeoutError)   not finished in time; it goes on
    ├── ExecutorError                      about a runner
    │   ├── RunnerClosed                   not entered yet, or shut down
    │   ├── QueueFull                      the configured bound on pending executions is reached
    │   ├── WrongThread                    a blocking call on the event loop's own thread
    │   └── DispatchError                  no executor takes the attempt
    ├── MissingExtra (ImportError)         an optional package is not installed; the message names the extra
    └── StoreError                         about the database; ``retryable`` says whether waiting helps
        ├── StoreBusy                      locked by someone else for now
        │   └── StoreTimeout               took longer than a statement may take
        ├── KeyBusy                        somebody's open transaction holds the idempotency key
        ├── StoreUnavailable               a resource is missing: disk space, memory, the folder, rights
        ├── StoreRefused                   this content can never be stored
        ├── StoreCorrupt                   the file is damaged or not a database of ours
        ├── SchemaTooNew                   written by a newer cloacina
        ├── ForeignConnection              another library touched the open database file
        ├── ForkedProcess                  the database was opened before a fork
        ├── AdminError                     a tenant cannot be created or removed, and why
        ├── UnsuitableServer               the server is too old, or may lose commits the way it is set up
        ├── PayloadError                   what is stored cannot be decoded: a key is missing, or it was tampered with
        └── Fenced                         this runner was declared dead; its writes are refused
"""

from __future__ import annotations


class CloacinaError(Exception):
    """The root of the tree: catch it to catch everything that cloacina raises."""


class ValidationError(CloacinaError, ValueError):
    """An argument, name, URL or setting is refused; nothing was changed."""


class WorkflowError(ValidationError):
    """A workflow, task, rule or retry policy cannot be built."""


class SubgraphError(WorkflowError):
    """A subgraph was asked for with tasks that the DAG does not have."""


class RegistrationError(WorkflowError):
    """A runner cannot take the workflow, for example because it has another version of that name."""


class UnknownWorkflow(ValidationError, LookupError):
    """No runner has ever registered a workflow of this name with the database."""


class InputError(ValidationError):
    """The input of an execution does not fit the model that the workflow declares; nothing was stored.

    ``paths`` lead to what does not fit, in the form ``orders[3].price``.
    """

    def __init__(self, message: str, *, paths: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.paths = paths


class VariableError(ValidationError, LookupError):
    """A variable is not set, or its template cannot be filled."""


class ContextError(CloacinaError):
    """A value or key that a context refuses.

    ``path`` leads to the bad value, in the form ``orders[3].price``; empty for the context as a whole.
    """

    def __init__(self, message: str, *, path: str = "") -> None:
        super().__init__(message)
        self.path = path


class ContextKeyError(ContextError, KeyError):
    """The context has no such key."""

    __str__ = Exception.__str__


class ContextConflict(ContextError):
    """Two branches wrote one key, and the workflow was made with ``on_conflict="error"``."""


class TaskError(CloacinaError):
    """The base of what bodies raise on purpose. Retried as the task's policy says."""


class TransientError(TaskError):
    """A failure that may pass; always counts as transient."""


class ProcessCrashed(TransientError):
    """The process that a body ran in ended before the body did; the message names the signal or exit code."""


class TransactionError(TransientError):
    """The transaction of a body came to nothing: a statement failed, it took too long, or its connection was lost.

    All that the body wrote through it is rolled back.
    """


class PermanentError(TaskError):
    """A failure that another attempt cannot mend; never retried."""


class CheckpointError(PermanentError):
    """A checkpoint was used in a way that cannot be repeated; never retried."""


class ExecutionError(CloacinaError):
    """About one execution."""


class ExecutionNotFound(ExecutionError, LookupError):
    """No execution has this id."""


class ExecutionFailed(ExecutionError):
    """The execution did not complete, and the caller asked for an exception (``raise_on_failure=True``).

    ``result`` is the `ExecutionResult`.
    """

    def __init__(self, message: str, result: object) -> None:
        super().__init__(message)
        self.result = result


class ExecutionParked(ExecutionError):
    """The execution was set aside, for the reason in the message; it does not go on by itself."""


class IdempotencyConflict(ExecutionError):
    """The idempotency key was used for another workflow or another input."""


class ForkRefused(ExecutionError):
    """The execution cannot be forked: it has not ended, or there is nothing to do again; nothing was stored."""


class ExecutionStalled(ExecutionError):
    """The execution waits for something outside: no moving of the clock of a test's runner ends it."""


class CommandTimeout(ExecutionError, TimeoutError):
    """The owner of the execution has not carried out a command in time. The command stays and takes effect later."""


class ResultTimeout(ExecutionError, TimeoutError):
    """The execution had not ended in time. It goes on; ask again with ``result()``."""


class ExecutorError(CloacinaError):
    """About a runner."""


class RunnerClosed(ExecutorError):
    """The runner is not running: not entered yet, shutting down or shut down."""


class QueueFull(ExecutorError):
    """The bound on pending executions (``Settings.max_pending``) is reached; nothing was stored."""


class WrongThread(ExecutorError):
    """A blocking call was made on the event loop's own thread, which it would have stopped for ever."""


class DispatchError(ExecutorError):
    """No executor takes the attempt."""


class MissingExtra(CloacinaError, ImportError):
    """An optional package is not installed; the message says which extra brings it."""


class StoreError(CloacinaError):
    """About the database. ``retryable``: the same call can succeed later without a change."""

    retryable = False


class StoreBusy(StoreError):
    """The database is locked by someone else for now."""

    retryable = True


class StoreTimeout(StoreBusy):
    """A statement took longer than it may, and had no effect; smaller ones may not."""


class KeyBusy(StoreError):
    """A transaction that has not ended stores the idempotency key, or has locked the table: try again when it has."""


class StoreUnavailable(StoreError):
    """Something that the database needs is missing: disk space, memory, its folder, access rights."""

    retryable = True


class StoreRefused(StoreError):
    """This content can never be stored as it is."""


class StoreCorrupt(StoreError):
    """The file is damaged, or is not a database of cloacina."""


class SchemaTooNew(StoreError):
    """The database was written by a newer version of cloacina."""


class ForeignConnection(StoreError):
    """Another SQLite library or a plain ``open()`` touched the open database file, which is unsafe."""


class ForkedProcess(StoreError):
    """The database was opened before a fork and is used after it."""


class AdminError(StoreError):
    """A tenant cannot be created or removed: it exists, there is none, or the login lacks the rights."""


class UnsuitableServer(StoreError):
    """The server is too old, its encoding is not UTF-8, or its settings are such that commits can be lost."""


class PayloadError(StoreError):
    """What is stored cannot be decoded: its key or its file is missing, or somebody changed it."""


class Fenced(StoreError):
    """This runner was declared dead by another; what it tries to write is refused."""
