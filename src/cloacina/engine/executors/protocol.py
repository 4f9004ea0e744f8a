"""The executor protocol: what runs attempts, what it is given, and what it may see of an attempt.

The engine calls an executor on the event loop only, and an executor reports on the event loop only; what
happens on threads, in processes or on other machines in between is its own affair (`ExecutorHost.post` leads
back). In the life of an attempt::

    start(attempt)  ->  the body runs, somewhere  ->  attempt.end(attempt.conclude(returned, error))

    start(attempt)  ->  stop(attempt)  ->  the body ends or is written off  ->  attempt.end(...)

An attempt ends exactly once; what is reported after that is ignored. The engine has committed the start
before it calls `TaskExecutor.start`, counts the slots, and runs the clock of the task's timeout.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

from cloacina.clock import Clock
from cloacina.model.context.context import Context
from cloacina.model.json.values import Limits
from cloacina.model.retry import RetryPolicy
from cloacina.model.status import AttemptState
from cloacina.model.task import Task
from cloacina.settings import Settings

if TYPE_CHECKING:
    from cloacina.engine.executors.attempt import Attempt, Ending


@dataclass(frozen=True, slots=True)
class ExecutorMetrics:
    """How busy an executor is, in attempts; counted since the runner's last start.

    ``slots`` may run at once, ``running`` have begun and not ended, those that wait for another execution
    included; ``waiting`` are ready and wait for a slot; ``started`` and ``ended`` count both kinds of past;
    ``written_off`` are those among the ended whose body could not be stopped.
    """

    slots: int
    running: int
    waiting: int
    started: int
    ended: int
    written_off: int


@dataclass(frozen=True, slots=True)
class ExecutorHost:
    """What an executor is given of the runner that it serves.

    ``post`` runs a function on the event loop soon; it may be called from any thread. ``grew`` says that
    `TaskExecutor.slots` is larger than it was. ``limits`` bound what a context may hold. ``policy`` is the retry
    policy that an attempt's task follows.
    """

    settings: Settings
    clock: Clock
    limits: Limits
    post: Callable[[Callable[[], None]], None]
    grew: Callable[[], None]
    policy: Callable[[StartedAttempt], RetryPolicy]


class StartedAttempt(Protocol):
    """An attempt as its executor sees it. Nothing else of it is for executors."""

    @property
    def execution(self) -> str:
        """The id of the execution."""
        ...

    @property
    def workflow(self) -> str:
        """The name of the workflow."""
        ...

    @property
    def task(self) -> str:
        """The id of the task."""
        ...

    @property
    def attempt(self) -> int:
        """The number of the attempt, from 1."""
        ...

    @property
    def task_object(self) -> Task:
        """The task; its ``fn`` is the body."""
        ...

    @property
    def context(self) -> Context:
        """What the body reads and changes."""
        ...

    @property
    def stopping(self) -> AttemptState | None:
        """Why the body was told to stop, if it was: it timed out or was cancelled."""
        ...

    @property
    def ended(self) -> bool:
        """True once the attempt has ended for the engine."""
        ...

    def call(self) -> object:
        """Call the body with its context: returns what it returns, a coroutine if it is ``async def``."""
        ...

    def conclude(self, returned: object, error: BaseException | None) -> Ending:
        """How the attempt ends, from what the body returned or raised; best called where the body ran."""
        ...

    def end(self, ending: Ending) -> None:
        """Report the ending. On the event loop."""
        ...

    def write_off(self) -> None:
        """End the attempt though its body goes on and cannot be stopped. On the event loop."""
        ...

    def leave(self) -> None:
        """A body that was written off has really ended: its retry may start. On the event loop."""
        ...

    def hold_clock(self) -> None:
        """Stop the clock of the task's timeout, because the body does not run yet, or waits. On the event loop."""
        ...

    def run_clock(self) -> None:
        """Let the clock of the task's timeout go on. On the event loop."""
        ...


class TaskExecutor(Protocol):
    """Where attempts run: see the module's text. An executor serves one runner from its start to its end.

    What it is given is an `Attempt`, which your own executor annotates as a `StartedAttempt`.

    The class, or whatever makes the executor, may have an attribute ``check``: a function of a `Task` and its
    `RetryPolicy` that raises `ValidationError` if the executor cannot run it; it is called when a workflow
    is registered.
    """

    @property
    def slots(self) -> int:
        """How many attempts may run at once, now. Slots are alike: any task can use any of them."""
        ...

    def start(self, attempt: Attempt) -> None:
        """Run the body. Must not block. What it raises fails the attempt."""
        ...

    def stop(self, attempt: Attempt) -> None:
        """Tell a body to stop that was started; ``attempt.stopping`` says why. May be called again."""
        ...

    async def close(self) -> None:
        """Let go of everything. Called once, after all attempts were told to stop; they may be waited for."""
        ...


ExecutorFactory: TypeAlias = Callable[[ExecutorHost], TaskExecutor]
"""Makes an executor for one life of a runner, on its event loop."""
