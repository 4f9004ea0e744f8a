"""The driver of one execution: it turns what happened into an item, and what was committed into bodies.

A driver's life is a circle. Things happen to it (`ended`, `due`, `stop`); they are noted and it asks to be
heard. When the committer gathers, `digest` lets the execution's state decide what follows, the dispatcher
may `grant` slots to what became ready, and `seal` hands out the finished item. Nothing of it takes effect
before `committed`: only then bodies start, timers run, and those who wait are told.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import cast

from cloacina.engine.driving.draft import Draft, poisoned
from cloacina.engine.driving.finishing import finish
from cloacina.engine.driving.host import Host
from cloacina.engine.driving.inputs import take_input
from cloacina.engine.driving.orders import Order, Orders
from cloacina.engine.driving.records import attempts_under_way, past_of
from cloacina.engine.driving.settling import Settling
from cloacina.engine.driving.waits import Waits, deadline_of
from cloacina.engine.driving.wishes import Wish, Wishes, shift
from cloacina.engine.executors.attempt import Attempt, Ending, describe
from cloacina.errors import ContextError
from cloacina.logic.execution import Consequences, ExecutionState, Ruling
from cloacina.model.context.context import Context
from cloacina.model.json.patch import as_view
from cloacina.model.json.values import JSON, encode
from cloacina.model.result import ErrorInfo
from cloacina.model.status import AttemptState, CommandKind, ExecutionStatus, Reason, TaskState
from cloacina.model.workflow import Workflow
from cloacina.store.rows import Item, StoredExecution


class Driver:
    """See the module's text."""

    __slots__ = (
        "_cause", "_endings", "_fresh", "_host", "_orders", "_settling", "_untimed", "_waits", "_wishes", "counted",
        "draft", "heard", "held", "id", "made_here", "over", "paused", "priority", "ready", "refusals", "running",
        "settling", "state", "unstored", "workflow",
    )  # fmt: skip

    def __init__(self, host: Host, workflow: Workflow, row: StoredExecution) -> None:
        self._host = host
        self.workflow = workflow
        self.id = row.id
        self.priority = row.priority
        self.state = ExecutionState(workflow, host.limits)
        self.draft = Draft(row, host.runner, workflow.dag)
        self.unstored = False
        """True for a new execution until its first item is committed."""
        self.made_here = False
        """True if this driver created the execution, so that the store has nothing older of it."""
        self.ready: set[int] = set()
        self.running: dict[int, Attempt] = {}
        self.heard = False
        """True while it waits to be digested."""
        self.held = False
        """True while its item is refused and looked into, or committed by a body's transaction: it decides nothing."""
        self.over = False
        """True once it has given up its execution: what its bodies still report is refused."""
        self.refusals = 0
        """How many of its items in a row the store refused."""
        self.counted = False
        """True while it counts in the runner's window."""
        self._fresh: list[Attempt] = []
        self._endings: list[tuple[Attempt, Ending]] = []
        self._settling: Settling | None = None
        self.settling: Attempt | None = None
        """The attempt whose transaction commits the item that is being decided or is in flight."""
        self._untimed: list[int] | None = None
        """Waiting tasks whose timers are set once the item is committed."""
        self._cause: Reason | None = None
        self._waits: Waits | None = None
        self._orders: Orders | None = None
        self._wishes: Wishes | None = None
        self.paused = row.status is ExecutionStatus.PAUSED
        """True while no task may start."""

    @property
    def status(self) -> ExecutionStatus:
        """Where the execution stands, or will once the item in flight is committed."""
        return self.draft.status

    @property
    def active(self) -> bool:
        """True if it has something to run, or a body that does not just wait for another execution."""
        ready = bool(self.ready) and not self.paused
        return ready or any(attempt.slot for attempt in self.running.values())

    @property
    def waits(self) -> bool:
        """True if it does nothing but wait for its time, so that it can be stored away."""
        if self.running or self.ready or self.settling or not self.state.live:
            return False
        held_back = self._waits is not None and self._waits.held
        return not (held_back or self.over or self.held or self.unstored or self.draft.gives_up)

    @property
    def wake_at(self) -> int | None:
        """When something is due, in microseconds, if it only waits."""
        deadline = deadline_of(self.workflow, self.draft.started)
        moments = [*self.state.due.values(), *(() if deadline is None else (deadline,))]
        return min(moments, default=None)

    def wants(self, index: int) -> bool:
        """True if task ``index`` may still start."""
        return index in self.ready and self._cause is None and not (self.held or self.paused)

    def works(self) -> list[asyncio.Task[None]]:
        """The tasks of its ``async`` bodies."""
        return [attempt.work for attempt in self.running.values() if attempt.work is not None]

    # What happens to it.

    def create(self, input: dict[str, JSON]) -> None:
        """It is a new execution, to be stored with its first item."""
        self.state.views.input = as_view(input, self.draft.input)
        self.unstored = True
        self._host.hear(self)

    def restore(self, stored: StoredExecution) -> None:
        """It was stored before: take over what its attempts came to."""
        now = self._host.clock.now()
        self.paused = stored.status is ExecutionStatus.PAUSED
        for command in stored.commands:
            self.obey(Order(CommandKind(command.kind), command.id))
        self.draft.load(stored, self.state.dag)
        if take_input(self.state, self.workflow, stored):
            self._follow(self.state.restore(past_of(stored)), now)
        else:
            self._cause = Reason.INVALID_INPUT
        self._untimed = list(self.state.due)
        self._set_timers(now)
        self._host.hear(self)

    def ended(self, attempt: Attempt, ending: Ending) -> None:
        """The body of one of its attempts ended."""
        mine = self.running.get(attempt.index) is attempt
        if mine:
            self._host.release(attempt)
        if mine and not self.over:
            if attempt.transaction is None:
                self._endings.append((attempt, ending))
            else:
                self._settling = self._settling or Settling(self._host.roll_back)
                self._settling.add(attempt, ending)
            self._host.hear(self)
        elif attempt.transaction is not None:
            self._host.roll_back(attempt)

    def stop(self, cause: Reason) -> None:
        """Cancel the execution, or end it because it ran out of time."""
        if self._cause is None and not self.over:
            self._cause = cause
            self._host.hear(self)

    def obey(self, order: Order) -> None:
        """Somebody wants the execution cancelled, paused or resumed."""
        if self.over:
            order.done(False)
            return
        self._orders = self._orders or Orders()
        if self._orders.add(order):
            self._host.hear(self)
        if order.kind is CommandKind.CANCEL:
            self.stop(Reason.CANCELLED)

    def wish(self, wish: Wish) -> None:
        """One of its bodies wants something stored."""
        self._wishes = self._wishes or Wishes()
        self._wishes.add(wish)
        self._host.hear(self)

    def due(self, index: int) -> None:
        """A task's retry is due."""
        if index in self.state.due and self.state.standing.states[index] is TaskState.WAITING:
            self._make_ready(index)

    # What follows, gathered into one item.

    def digest(self, now: int) -> int:
        """Decide what follows from all that happened; return how many rows that writes so far."""
        self.heard = False
        if self.over or self.held or self.settling or self.draft.gives_up:
            return 0
        if self.unstored and not self.made_here:
            self.made_here = True
            self.draft.create()
            self._follow(self.state.begin(), now)
        if self._settling:
            return self._settling.write(self, now)
        if self._wishes is not None and self._cause is None:
            self._wishes.write(self)
        endings, self._endings = self._endings, []
        for attempt, ending in endings:
            self.settle(attempt, ending, now)
        if self._orders is not None:
            self._orders.write(self, now)
        if self._cause is not None and not self.state.cut_short:
            self._cut_short(self._cause, now)
        return self.draft.rows

    def grant(self, index: int, now: int) -> None:
        """Use a slot for a ready task, or fail the task if its view cannot be built."""
        self.ready.discard(index)
        state = self.state
        try:
            view = state.views.of(index)
        except ContextError as error:
            self._host.refuse_grant(self, index)
            self._fail_unstarted(Ruling(index, TaskState.FAILED, Reason.CONTEXT, error), None, now)
            return
        suspect = state.suspect(index)
        number = state.start(index)
        attempt = Attempt(self.id, self.workflow.name, state.dag.tasks[index], index, number, now, suspect)
        attempt.courier = courier = self._host.courier
        attempt.context = Context.over(view, self._host.limits, input=state.views.input, checkpoints=courier)
        attempt.done = self.ended
        attempt.slot = True
        self.running[index] = attempt
        self._fresh.append(attempt)
        self.draft.start(attempt)

    def seal(self, now: int) -> Item | None:
        """The item with everything that was decided, or None if nothing was."""
        if self.held or self.over:
            return None
        if not self.draft.gives_up:
            if self.paused and self._cause is None:
                self._rest()
            elif not self.state.live:
                finish(self.draft, self.state, self.workflow, self._cause, now)
        item = self.draft.hand_out()
        if self.settling is not None:
            self.held = True
        elif item is None and self._orders is not None:
            self._orders.committed()  # what they ask for is so already
        return item

    # What is durable now.

    def committed(self, now: int) -> None:
        """The item is durable: start bodies, set timers, tell who waits."""
        self.unstored, self.refusals = False, 0
        gone = self.draft.gives_up
        settled, self.settling, self.held = self.settling, None, False
        if self._orders is not None:
            self._orders.committed()
        if self._wishes is not None and not gone:
            self._wishes.committed()
        told = self.draft.clear()
        fresh, self._fresh = self._fresh, []
        if gone:
            self.drop()
        elif self._cause is None:
            for attempt in fresh:
                self._host.launch(attempt)
        if not gone:
            self._set_timers(now)
            if settled is not None:  # much may have happened beside it
                self.offer_ready()
                self._host.hear(self)
        for index, state, error in told:
            self._host.task_ended(self, index, state, error)
        if gone:
            self._host.gone(self)

    def offer_ready(self) -> None:
        """Offer again what was ready while nothing could start."""
        for index in self.ready:
            self._host.offer(self, index)

    def refused(self, stored: StoredExecution, ending: Ending) -> None:
        """The item is not stored: go back to what is, and let attempts end so that are stored, but do not run."""
        self.settling, self.held = None, False
        if self._orders is not None:
            self._orders.refused()
        if self._wishes is not None:
            self._wishes.refused(ending.error)
        fresh, self._fresh = self._fresh, []
        for attempt in fresh:
            self._host.release(attempt)
            self.running.pop(attempt.index, None)
        self.ready.clear()
        self.state = ExecutionState(self.workflow, self._host.limits)
        self.restore(stored)
        for attempt in attempts_under_way(stored, self.state.dag):
            if attempt.index not in self.running:
                self.running[attempt.index] = attempt
                self._endings.append((attempt, ending))

    def park(self, why: str) -> None:
        """Set the execution aside with a reason that its reader can see."""
        self.settling, self.held = None, False
        self.draft.park(why, self._host.clock.now())
        self.ready.clear()
        self._host.hear(self)

    def drop(self) -> None:
        """Let go of everything: bodies are told to stop, and what they report is refused."""
        self.over = True
        for attempt in list(self.running.values()):
            self._host.cut(attempt)
        for asked in (self._orders, self._wishes, self._settling):
            if asked is not None:
                asked.drop()
        if self._waits is not None:
            self._waits.cancel()
        self.ready.clear()

    def _rest(self) -> None:
        """A paused execution whose bodies have ended needs nobody before it is resumed or out of time."""
        held_back = self._waits is not None and self._waits.held
        if not (self.running or self._endings or self.settling or held_back):
            self.draft.store_away(deadline_of(self.workflow, self.draft.started) if self.state.live else None)

    def settle(self, attempt: Attempt, ending: Ending, now: int) -> None:
        """Decide what follows from the end of an attempt."""
        index, state = attempt.index, self.state
        if self.running.get(index) is not attempt:
            return
        del self.running[index]
        if state.standing.states[index] is TaskState.WAITING:  # it ended while it was deferred
            shift(self, attempt, AttemptState.RUNNING)
        found = Consequences([], [])
        if ending.state is AttemptState.COMPLETED:
            patch = ending.patch or {}
            self.draft.end(attempt, ending.state, now, delta=encode(cast("JSON", patch)))
            state.end(index, TaskState.COMPLETED, found, patch)
            self._follow(found, now)
            return
        if ending.state is AttemptState.INTERRUPTED:
            self.draft.end(attempt, ending.state, now, reason=Reason.LOST_CONNECTION)
            state.interrupt(index)
            self._make_ready(index)
            return
        wait = state.fail(index, ending.error, self._host.randomness.random())
        retry_at = None if wait is None else now + round(wait * 1e6)
        info = None if ending.error is None else describe(ending.error)
        self.draft.end(attempt, ending.state, now, retry_at=retry_at, error=info)
        if retry_at is None:
            state.end(index, TaskState.FAILED, found)
            self._follow(found, now)
            return
        state.wait(index, retry_at)
        self._untimed = [*(self._untimed or ()), index]
        task = attempt.task_object
        if attempt.written_off and not task.is_async and not task.overlap:
            self._waits_of().hold(attempt)

    def _follow(self, found: Consequences, now: int) -> None:
        for ruling in found.rulings:
            self.draft.rule(ruling, self.state.attempts[ruling.index], now)
        for index in found.ready:
            if self.state.suspected(index) >= self._host.crash_cap:
                error = poisoned(self.state, index)
                self._fail_unstarted(Ruling(index, TaskState.FAILED, Reason.POISONED), error, now)
            else:
                self._make_ready(index)

    def _fail_unstarted(self, ruling: Ruling, error: ErrorInfo | None, now: int) -> None:
        self.draft.rule(ruling, self.state.attempts[ruling.index], now, error)
        found = Consequences([], [])
        self.state.end(ruling.index, ruling.state, found)
        self._follow(found, now)

    def _make_ready(self, index: int) -> None:
        self.ready.add(index)
        self._host.offer(self, index)

    def _cut_short(self, cause: Reason, now: int) -> None:
        if not self.state.live and not (self.paused and cause is Reason.CANCELLED):
            self._cause = None  # nothing is left to cut: its tasks ended in time
            return
        for ruling in self.state.close(cause):
            attempt = self.running.get(ruling.index)
            if attempt is None:
                self.draft.rule(ruling, self.state.attempts[ruling.index], now)
            else:
                self.draft.end(attempt, AttemptState.CANCELLED, now, reason=cause)
        self.ready.clear()

    def _waits_of(self) -> Waits:
        if self._waits is None:
            self._waits = Waits(self._host.clock, self.due, partial(self.stop, Reason.EXECUTION_TIMEOUT))
        return self._waits

    def _set_timers(self, now: int) -> None:
        untimed, self._untimed = self._untimed, None
        for index in untimed or ():
            due = self.state.due.get(index)
            if due is not None:
                self._waits_of().add(index, (due - now) / 1e6)
        deadline = deadline_of(self.workflow, self.draft.started)
        if deadline is not None:
            self._waits_of().expire_at(deadline, now)
