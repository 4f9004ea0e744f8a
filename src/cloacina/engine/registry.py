"""The registry: the workflows that a runner has, by name."""

from __future__ import annotations

from cloacina.engine.executors.protocol import StartedAttempt
from cloacina.errors import RegistrationError
from cloacina.model.retry import RetryPolicy
from cloacina.model.routing.routing import Routing
from cloacina.model.workflow import Workflow


class Registry:
    """Owned by one engine; nothing is global. A name stands for one version at a time."""

    def __init__(self, routing: Routing | None = None) -> None:
        self.routes: dict[str, tuple[str, ...]] = {}
        """The executor of each task in canonical order, by the name of its workflow."""
        self.transactions = False
        """True if the database has transactions for bodies."""
        self._routing = routing or Routing()
        self._workflows: dict[str, Workflow] = {}
        self._versions: tuple[tuple[str, str], ...] = ()

    def add(self, workflow: Workflow) -> bool:
        """Take a workflow, which freezes it; False if it was there.

        Raises `RegistrationError` if the name stands for another version or a task needs what this runner has not,
        `WorkflowError` if the workflow is not valid.
        """
        known = self._workflows.get(workflow.name)
        if known is workflow:
            return False
        version = workflow.version
        if known is not None:
            if known.version == version:
                return False
            raise RegistrationError(
                f"workflow {workflow.name!r} is registered with version {known.version[:12]}, and this one has "
                f"version {version[:12]}: give it another name, or make a new runner"
            )
        self._check_transactions(workflow)
        self.routes[workflow.name] = self._routing.routes(workflow)
        self._workflows[workflow.name] = workflow
        self._versions = (*self._versions, (workflow.name, version))
        return True

    def _check_transactions(self, workflow: Workflow) -> None:
        for task in () if self.transactions else workflow.dag.tasks:
            if task.transaction_parameter is not None:
                raise RegistrationError(
                    f"workflow {workflow.name!r}, task {task.id!r}: its parameter {task.transaction_parameter!r} takes "
                    "a transaction, and only PostgreSQL has those: an SQLite file belongs to the engine, and nobody "
                    "else writes to it; use a checkpoint, or writes that may be repeated"
                )

    def get(self, name: str) -> Workflow:
        """The workflow of this name. Raises `RegistrationError` if there is none."""
        try:
            return self._workflows[name]
        except KeyError:
            known = ", ".join(sorted(self._workflows)) or "none"
            raise RegistrationError(
                f"no workflow named {name!r} is registered with this runner (known: {known}): "
                "pass the Workflow itself, or give it to Runner(workflows=[...])"
            ) from None

    def policy(self, attempt: StartedAttempt) -> RetryPolicy:
        """The retry policy that the task of ``attempt`` follows."""
        workflow = self._workflows[attempt.workflow]
        return workflow.policies[workflow.dag.index[attempt.task]]

    def find(self, name: str) -> Workflow | None:
        """The workflow of this name, or None."""
        return self._workflows.get(name)

    def all(self) -> tuple[Workflow, ...]:
        """Every workflow, in the order of registration."""
        return tuple(self._workflows.values())

    def versions(self) -> tuple[tuple[str, str], ...]:
        """Every name with its version."""
        return self._versions
