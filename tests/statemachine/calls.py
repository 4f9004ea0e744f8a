"""Rules about what callers ask: to submit, to command, to look."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from cloacina import ExecutionStatus
from cloacina.errors import (
    CloacinaError,
    CommandTimeout,
    ExecutionNotFound,
    IdempotencyConflict,
    QueueFull,
    RegistrationError,
    UnknownWorkflow,
)
from statemachine.ground import NAMES, Any_, Ground, input_of
from statemachine.model import ExecutionModel


class Calls(Ground):
    """See the module's text."""

    # Submitting.

    def submit_first(self, many: int) -> None:
        for name in NAMES[:many]:
            self.submit(0, name, True, True, None, 0, ())

    @precondition(lambda self: self._may_submit())
    @rule(
        desk=Any_, name=st.sampled_from(NAMES), flag=st.booleans(), rich=st.booleans(),
        key=st.sampled_from([None, None, "k1", "k2"]), priority=st.integers(-1, 1),
        tags=st.sampled_from([(), ("a",), ("a", "b")]),
    )  # fmt: skip
    def submit(
        self,
        desk: int,
        name: str,
        flag: bool,
        rich: bool,
        key: str | None,
        priority: int,
        tags: tuple[str, ...],
    ) -> None:
        slot = self._desk(desk)
        input = input_of(flag, rich)
        holder = None if key is None else self.world.by_key(key)

        def work() -> Coroutine[Any, Any, Any]:
            return self.real.desks[slot].submit(name, input, key=key, priority=priority, tags=tags)  # type: ignore[arg-type]

        if not self._knows(slot, name):
            self._raises(UnknownWorkflow if slot == 2 else RegistrationError, work())
            return
        room = self._room(slot, 1, plain=key is None and slot != 2)
        handle = self._bounded(work, room)
        if handle is None:
            return
        if holder is not None:
            if (holder.shape.name, holder.input) == (name, input):
                assert not isinstance(handle, CloacinaError), handle
                assert handle.id == holder.id, f"key {key} gave {handle} and not {holder.id}"
                self._note("a key was used again")
            else:
                assert isinstance(handle, IdempotencyConflict), (
                    f"{handle} in place of a conflict with {holder}"
                )
                self._note("a key was in use for something else")
        else:
            assert not isinstance(handle, CloacinaError), handle
            self._born(slot, [handle.id], name, input, key, priority, tags)
        self.settle()

    @precondition(lambda self: self._may_submit())
    @rule(desk=Any_, name=st.sampled_from(NAMES), many=st.integers(0, 3), flag=st.booleans())
    def submit_many(self, desk: int, name: str, many: int, flag: bool) -> None:
        slot = self._desk(desk)
        inputs = [input_of(flag, number % 2 == 0) for number in range(many)]

        def work() -> Coroutine[Any, Any, Any]:
            return self.real.desks[slot].submit_many(name, inputs)  # type: ignore[arg-type]

        if not self._knows(slot, name):
            self._raises(UnknownWorkflow if slot == 2 else RegistrationError, work())
            return
        handles = self._bounded(work, self._room(slot, many) if many else True)
        if handles is not None:
            assert not isinstance(handles, CloacinaError), handles
            for handle, input in zip(handles, inputs, strict=True):
                self._born(slot, [handle.id], name, input)
            self.settle()

    @precondition(lambda self: self._may_submit() and len(self.world.waits) < 4)
    @rule(desk=Any_, name=st.sampled_from(NAMES), flag=st.booleans())
    def execute(self, desk: int, name: str, flag: bool) -> None:
        """Submit, and wait for the end while other things happen."""
        slot = self._desk(desk)
        if not self._knows(slot, name):
            return
        input = input_of(flag, True)
        room = self._room(slot, 1, plain=slot != 2)

        async def begin() -> tuple[asyncio.Task[Any], list[str]]:
            task = asyncio.ensure_future(self.real.desks[slot].execute(name, input))  # type: ignore[arg-type]
            born: list[str] = []
            while not (born or (task.done() and not task.cancelled() and task.exception())):
                await self.real.blink()
                born = [id for id in (await self.real.rows()).executions if id not in self.world.executions]
            return task, born

        task, born = self.run(begin())
        if not born:
            assert isinstance(task.exception(), QueueFull) and room is not True, task
            self._note("the queue was full")
            return
        assert room is not False, f"{born} was let in, and the queue was full"
        self._born(slot, born, name, input)
        self._wait(slot, born[0], task)
        self.settle()

    @precondition(lambda self: self.real.desks and self.world.executions and len(self.world.waits) < 4)
    @rule(desk=Any_, which=Any_)
    def result(self, desk: int, which: int) -> None:
        slot, one = self._desk(desk), self._execution(which)
        self._wait(slot, one.id, self._task(self.real.desks[slot].result(one.id)))
        self.settle()

    # Commands.

    @precondition(lambda self: self.real.desks and self.world.executions)
    @rule(desk=Any_, which=Any_, kind=st.sampled_from(["pause", "cancel", "resume"]))
    def command(self, desk: int, which: int, kind: str) -> None:
        slot, one = self._desk(desk), self._execution(which, live=not self._seldom())
        work = getattr(self.real.desks[slot], kind)
        if one.owner is not None and one.owner not in self.world.alive:
            self._command_for_the_dead(one, kind)
            return
        before = one.shown_status()
        status = self.run(work(one.id))
        one.command(kind)
        if one.owner is not None:
            one.decide(self.world.now)
        self._note(f"{kind} of one that {'has ended' if before.terminal else f'is {before}'}")
        if kind == "cancel":
            assert status == one.shown_status(), f"{kind} told {status}, and it is {one}"
        self.settle()

    @precondition(lambda self: self.real.desks and any(one.paused or one.parked for one in self.world.live))
    @rule(desk=Any_, which=Any_, kind=st.sampled_from(["resume", "cancel"]))
    def command_halted(self, desk: int, which: int, kind: str) -> None:
        """The same to one that is paused or parked, of which there are few."""
        parked = [number for number, one in enumerate(self.world.live) if one.parked]
        halted = parked or [number for number, one in enumerate(self.world.live) if one.paused]
        if not self._seldom():
            self.command(desk, halted[which % len(halted)], kind)

    def _command_for_the_dead(self, one: ExecutionModel, kind: str) -> None:
        """Nobody has noticed that the owner is dead, and nobody will before a runner starts."""
        client = self.real.client
        assert client is not None and client._access is not None
        client._access._patience, patience = 0.01, client._access._patience
        self._raises(CommandTimeout, getattr(client, kind)(one.id))
        client._access._patience = patience
        one.commands.append((kind, self.world.now))
        self._note("a command was left for a dead owner")
        self.settle()

    # Looking.

    @precondition(lambda self: self.real.desks and self.steps % 3 == 0)
    @rule(
        desk=Any_, workflow=st.sampled_from([None, *NAMES]), tag=st.sampled_from([None, "a", "b"]),
        status=st.lists(st.sampled_from(list(ExecutionStatus)), max_size=3), before=st.none() | Any_,
        limit=st.sampled_from([100, 2]),
    )  # fmt: skip
    def list(
        self, desk: int, workflow: str | None, tag: str | None, status: list[ExecutionStatus], before: int | None,
        limit: int,
    ) -> None:  # fmt: skip
        ids = sorted(self.world.executions)
        bound = ids[before % len(ids)] if ids and before is not None else None
        wanted = [
            id
            for id in reversed(ids)
            if (one := self.world.executions[id]).shape.name == (workflow or one.shape.name)
            and (tag is None or tag in one.tags)
            and (not status or one.shown_status() in status)
            and (bound is None or id < bound)
        ][:limit]
        asked = self.real.desks[self._desk(desk)].list(
            workflow=workflow, tag=tag, status=status, before=bound, limit=limit
        )
        found = [info.id for info in self.run(asked)]
        assert found == wanted, f"the list is {found}, and should be {wanted}"

    @precondition(lambda self: self.real.desks and self._seldom())
    @rule(desk=Any_, gone=st.booleans())
    def unknown(self, desk: int, gone: bool) -> None:
        """Ask for what is not there, or not any more."""
        asked = self.real.desks[self._desk(desk)]
        id = min(self.removed, default="nothing") if gone else "nothing"
        for work in (
            asked.get(id), asked.status(id), asked.cancel(id), asked.pause(id), asked.resume(id), asked.retry(id),
            asked.explain(id), asked.result(id),
        ):  # fmt: skip
            self._raises(ExecutionNotFound, work)
