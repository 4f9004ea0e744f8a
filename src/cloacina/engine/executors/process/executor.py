"""The process executor: each body in a process of its own, which may crash, hang or be killed alone."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import suppress

from cloacina.clock import Timer
from cloacina.engine.executors.attempt import Attempt, Ending
from cloacina.engine.executors.process.child import Child
from cloacina.engine.executors.process.orders import Orders, checked
from cloacina.engine.executors.process.place import main_module
from cloacina.engine.executors.process.wire import Ask, Begun, Done, Failed, FromChild, Hello, Reply
from cloacina.engine.executors.protocol import ExecutorHost
from cloacina.errors import ContextError, PermanentError, ProcessCrashed
from cloacina.logic.delays import Failure
from cloacina.model.json.patch import read_patch
from cloacina.model.status import AttemptState
from cloacina.observe.logs import fields_of, get_logger, level_of_ours

log = get_logger("executor")


class ProcessExecutor:
    """Runs bodies in child processes: see `TaskExecutor`.

    A child runs one body at a time and is used again; one that crashed, or whose body was told to stop, is
    replaced when there is work for another. The child used last gets the next attempt, so that those which
    are not needed grow idle, and end.
    """

    check = staticmethod(checked)

    def __init__(self, host: ExecutorHost) -> None:
        settings = host.settings
        self.slots = settings.process_slots
        self._host = host
        self._grace = settings.cancel_grace
        self._most_served = settings.process_attempts or sys.maxsize
        self._orders = Orders(host)
        self._children: set[Child] = set()
        self._idle: list[Child] = []
        self._look: Timer | None = None
        self._asked: set[asyncio.Task[None]] = set()
        self._empty = asyncio.Event()
        self._empty.set()
        self._closed = False

    def start(self, attempt: Attempt) -> None:
        attempt.hold_clock()
        self._give(self._idle.pop() if self._idle else self._new(), attempt)

    def stop(self, attempt: Attempt) -> None:
        child = next((child for child in self._children if child.attempt is attempt), None)
        if child is not None:
            child.stop()
            attempt.due(self._host.clock.call_later(self._grace, child.kill))

    async def close(self) -> None:
        """See `TaskExecutor.close`: children get the grace for bodies to end, and are killed after it."""
        self._closed = True
        if self._look is not None:
            self._look.cancel()
        for child in tuple(self._children):
            if child.attempt is None:
                child.dismiss()
        try:
            async with asyncio.timeout(self._grace):
                await self._empty.wait()
        except TimeoutError:
            pass
        finally:
            for child in tuple(self._children):
                child.kill()
        await self._empty.wait()

    # Children.

    def _new(self) -> Child:
        if self._closed:
            raise PermanentError("the runner's processes have been closed")
        limits = self._host.limits
        child = Child(self, 4 * limits.context_bytes + 1_000_000, self._host.post)
        self._children.add(child)
        self._empty.clear()
        arguments = [os.fsencode(argument) for argument in sys.argv]
        child.send(Hello(arguments, main_module(), limits.value_bytes, limits.context_bytes, level_of_ours()))
        return child

    def _give(self, child: Child, attempt: Attempt) -> None:
        child.attempt, child.begun, child.rested = attempt, False, False
        child.served += 1
        child.send(self._orders.order(attempt))

    def _rest(self, child: Child) -> None:
        """The child has nothing to do."""
        if self._closed or child.served >= self._most_served:
            self._dismiss(child)
            return
        self._idle.append(child)
        if self._look is None:
            self._look = self._host.clock.call_later(self._host.settings.process_idle, self._look_around)

    def _look_around(self) -> None:
        """Let those end that have had nothing to do since the last look."""
        self._look = None
        idle, self._idle = self._idle, []
        for child in idle:
            if child.rested:
                self._dismiss(child)
            else:
                child.rested = True
                self._rest(child)

    def _dismiss(self, child: Child) -> None:
        child.dismiss()
        child.timers.append(self._host.clock.call_later(self._grace, child.kill))

    # What children report.

    def heard(self, child: Child, message: FromChild) -> None:
        """See `Parent.heard`."""
        attempt = child.attempt
        if attempt is None:
            child.spoil()
        elif isinstance(message, Begun):
            child.begun = True
            attempt.run_clock()
        elif isinstance(message, Ask):
            task = asyncio.get_running_loop().create_task(self._answer(child, attempt, message))
            self._asked.add(task)
            task.add_done_callback(self._asked.discard)
        else:
            child.attempt = None
            if attempt.stopping is None:
                self._rest(child)
            else:
                self._dismiss(child)
            attempt.end(_ending(attempt, message))

    def lost(self, child: Child) -> None:
        """See `Parent.lost`."""
        child.timers.append(self._host.clock.call_later(max(self._grace, 1.0), child.spoil))

    def gone(self, child: Child, code: int | None, error: BaseException | None) -> None:
        """See `Parent.gone`."""
        for timer in child.timers:
            timer.cancel()
        self._children.discard(child)
        if child in self._idle:
            self._idle.remove(child)
        if not self._children:
            self._empty.set()
        attempt, child.attempt = child.attempt, None
        if attempt is None or attempt.ended:
            return
        if attempt.stopping is not None:
            attempt.end(attempt.conclude(None, None))
        elif error is not None:
            attempt.end(Ending(AttemptState.FAILED, error=error))
        elif child.served > 1 and not child.begun and not self._closed:
            # It ended while it was idle, and this was news to us when it got the attempt.
            try:
                self._give(self._new(), attempt)
            except (OSError, RuntimeError) as failure:
                attempt.end(Ending(AttemptState.FAILED, error=failure))
        else:
            crash = _crash(attempt, code, child)
            log.error("%s", crash, extra=fields_of(attempt))
            attempt.end(Ending(AttemptState.FAILED, error=crash))

    async def _answer(self, child: Child, attempt: Attempt, ask: Ask) -> None:
        """Do for a body what it asks for. It waits, so that nothing else is on its wire."""
        try:
            reply = Reply(await _done(attempt, ask))
        except (Exception, asyncio.CancelledError) as error:
            reply = Reply(refusal=f"{error}", permanent=isinstance(error, PermanentError))
        if child.attempt is attempt and not child.dismissed:
            child.send(reply)


async def _done(attempt: Attempt, ask: Ask) -> dict[str, str] | None:
    courier = attempt.courier
    if courier is None:
        raise PermanentError("this attempt has nowhere to store checkpoints")
    if ask.name is not None:
        await courier.store(attempt, ask.name, ask.value or "null")
        return None
    return None if courier.first(attempt) else await courier.stored(attempt)


def _ending(attempt: Attempt, message: Done | Failed) -> Ending:
    if attempt.stopping is not None:
        return attempt.conclude(None, None)
    if isinstance(message, Failed):
        return Ending(AttemptState.FAILED, error=Failure(message.error, message.worth_another))
    try:
        return Ending(AttemptState.COMPLETED, patch=read_patch(bytes(message.patch)))
    except ContextError as error:
        return Ending(AttemptState.FAILED, error=error)


def _crash(attempt: Attempt, code: int | None, child: Child) -> ProcessCrashed:
    body = f"the process of task {attempt.task!r} of workflow {attempt.workflow!r}"
    if child.spoilt:
        return ProcessCrashed(
            f"{body} was killed: its body wrote to, or closed, a file descriptor that was not its own"
        )
    before = "before its body began" if not child.begun else "while its body ran"
    if code is None or code >= 0:
        return ProcessCrashed(f"{body} ended with exit code {code} {before}")
    name = str(-code)
    with suppress(ValueError):
        name = signal.Signals(-code).name
    hint = ", perhaps because memory ran out" if -code == signal.SIGKILL else ""
    return ProcessCrashed(f"{body} was killed by {name}{hint}, {before}")
