"""The submission of an execution: what a caller gives, checked and made into a row."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from cloacina.errors import ContextError, IdempotencyConflict, ValidationError
from cloacina.model.context.context import Context
from cloacina.model.ids import new_id
from cloacina.model.json.values import JSON, Limits, decode, encode, to_json
from cloacina.model.names import check_name
from cloacina.model.status import ExecutionStatus
from cloacina.model.workflow import Workflow
from cloacina.store.payloads.payloads import read_payload
from cloacina.store.rows import ExecutionFilter, NewExecution, StoredExecution

MOST_AT_ONCE = 10_000
LONGEST_KEY = 200


@dataclass(frozen=True, slots=True)
class SubmitOptions:
    """How an execution is to be stored: idempotency key, priority (higher first), tags."""

    key: str | None = None
    priority: int = 0
    tags: tuple[str, ...] = ()

    @classmethod
    def checked(cls, key: object, priority: object, tags: Iterable[object]) -> SubmitOptions:
        """The options, if they are valid. Raises `ValidationError`."""
        if key is None and priority == 0 and not tags:
            return _PLAIN
        if key is not None and not (
            isinstance(key, str) and 0 < len(key) <= LONGEST_KEY and key.isprintable()
        ):
            raise ValidationError(
                f"idempotency key {key!r:.80} must be printable text of 1 to {LONGEST_KEY} characters"
            )
        if isinstance(priority, bool) or not isinstance(priority, int) or abs(priority) > 1_000_000:
            raise ValidationError(
                f"priority {priority!r:.80} must be a whole number between -1000000 and 1000000"
            )
        if isinstance(tags, str) or not isinstance(tags, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ValidationError(f"tags must be a list of names, not {tags!r:.80}")
        return cls(key, priority, tuple(check_name("tag", tag) for tag in tags))


_PLAIN = SubmitOptions()


def checked_filter(
    workflow: object, status: object, tag: object, before: object, limit: object
) -> ExecutionFilter:
    """Which executions to list, if it can be told from this. Raises `ValidationError`."""
    name = workflow.name if isinstance(workflow, Workflow) else workflow
    for what, value in (("workflow", name), ("tag", tag), ("before", before)):
        if value is not None and not isinstance(value, str):
            raise ValidationError(f"{what}={value!r:.80} must be a string")
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= MOST_AT_ONCE:
        raise ValidationError(f"limit={limit!r:.80} must be a whole number between 1 and {MOST_AT_ONCE}")
    listed = not isinstance(status, str) and isinstance(status, Iterable)
    try:
        states = tuple(map(ExecutionStatus, cast("Iterable[str]", status if listed else [status])))
    except ValueError as error:
        known = ", ".join(ExecutionStatus)
        raise ValidationError(f"{error}: a status is one of {known}") from None
    return ExecutionFilter(
        cast("str | None", name), states, cast("str | None", tag), cast("str | None", before), limit
    )


def check_seconds(name: str, value: object) -> None:
    """Raise `ValidationError` unless ``value`` is a number of seconds, 0 or more, or None."""
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 0:
        raise ValidationError(f"{name}={value!r:.80} must be a number of seconds, 0 or more")


def read_input(input: object, limits: Limits) -> dict[str, JSON]:
    """The input of an execution as JSON. Raises `ContextError` or `ValidationError`."""
    if input is None:
        return {}
    source = input.to_dict() if isinstance(input, Context) else input
    try:
        data = to_json(source, limits=limits)
    except ContextError:
        data = _large(source, limits)
    if not isinstance(data, dict):
        raise ValidationError(
            f"the input of an execution must be a mapping, a context or a model, not {type(input).__name__}"
        )
    return data


def new_row(workflow: str, version: str, text: str, options: SubmitOptions, now: int) -> NewExecution:
    """The row of a new execution whose input is the JSON ``text``."""
    return NewExecution(
        new_id(now), workflow, version, ExecutionStatus.PENDING, text, options.key,
        options.priority, encode([*options.tags]) if options.tags else "[]", None, now, None,
    )  # fmt: skip


def check_same(holder: StoredExecution, row: NewExecution) -> None:
    """Raise `IdempotencyConflict` unless ``holder``, which has the key of ``row``, is the same submission."""
    if holder.workflow != row.workflow or _input(holder) != decode(row.input):
        raise IdempotencyConflict(
            f"idempotency key {row.key!r} belongs to execution {holder.id} of workflow {holder.workflow!r}, "
            "which has another workflow or input: use another key"
        )


def _input(holder: StoredExecution) -> JSON:
    return read_payload(holder.input, f"the input of execution {holder.id}")


def read_many(inputs: object, make: Callable[[object], NewExecution]) -> list[NewExecution]:
    """A row for each input, or the error of the first that is refused, with its place."""
    if isinstance(inputs, str | Mapping) or not isinstance(inputs, Sequence):
        kind = type(inputs).__name__  # pyright: ignore[reportUnknownArgumentType]
        raise ValidationError(
            f"the inputs of submit_many must be a list with one input per execution, not {kind}"
        )
    given = cast("Sequence[object]", inputs)
    if len(given) > MOST_AT_ONCE:
        raise ValidationError(
            f"submit_many takes {MOST_AT_ONCE} inputs at most, not {len(given)}: split them"
        )
    rows: list[NewExecution] = []
    for position, input in enumerate(given):
        try:
            rows.append(make(input))
        except Exception as error:
            error.add_note(f"inputs[{position}] of submit_many; nothing was stored")
            raise
    return rows


def _large(source: object, limits: Limits) -> JSON:
    """The input as JSON though it is larger than one value may be, or the error that is the matter with it."""
    whole = Limits(max(limits.value_bytes, limits.context_bytes), limits.context_bytes, limits.depth)
    data = to_json(source, limits=whole)
    return Context(data, limits=limits).to_dict() if isinstance(data, dict) else data
