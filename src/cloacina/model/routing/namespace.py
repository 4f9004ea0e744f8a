"""A task's namespace: where a task stands, as one text that routing rules match."""

from __future__ import annotations

from dataclasses import dataclass

from cloacina.errors import ValidationError
from cloacina.model.names import check_name

SEPARATOR = "::"
DEFAULT_TENANT, DEFAULT_PACKAGE = "public", "embedded"
"""The tenant and the package of a workflow that was not loaded from a package."""


@dataclass(frozen=True, slots=True)
class TaskNamespace:
    """Where a task stands: ``str()`` of it is ``tenant::package::workflow::task``.

    Each part is 1 to 100 of the characters A-Z, a-z, 0-9, ``_``, ``.`` and ``-``; raises `ValidationError`
    otherwise.
    """

    tenant: str
    package: str
    workflow: str
    task: str

    def __post_init__(self) -> None:
        for part in self.__slots__:
            object.__setattr__(self, part, check_name(part, getattr(self, part)))

    @classmethod
    def of(
        cls, workflow: str, task: str, *, tenant: str = DEFAULT_TENANT, package: str = DEFAULT_PACKAGE
    ) -> TaskNamespace:
        """The namespace of a task, by default in the tenant ``public`` and the package ``embedded``."""
        return cls(tenant, package, workflow, task)

    def __str__(self) -> str:
        return SEPARATOR.join((self.tenant, self.package, self.workflow, self.task))


def parse_namespace(text: str) -> TaskNamespace:
    """The namespace that ``text`` writes: ``public::embedded::orders::load``.

    Raises `ValidationError` if it has not four parts, or a part is no name.
    """
    if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ValidationError(f"a namespace is a text, not {type(text).__name__}: write {EXAMPLE!r}")
    parts = text.split(SEPARATOR)
    if len(parts) != 4:
        raise ValidationError(
            f"{text!r:.300} is no namespace, it has {len(parts)} of 4 parts: write "
            f"tenant{SEPARATOR}package{SEPARATOR}workflow{SEPARATOR}task, for example {EXAMPLE!r}"
        )
    try:
        return TaskNamespace(*parts)
    except ValidationError as refused:
        raise ValidationError(f"{text!r:.300} is no namespace: {refused}") from None


EXAMPLE = SEPARATOR.join((DEFAULT_TENANT, DEFAULT_PACKAGE, "orders", "load"))
