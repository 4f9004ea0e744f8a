"""Commands that come while their execution is just being claimed: whoever claims it has them, and loses none."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cloacina.model.ids import new_id
from cloacina.model.status import CommandKind, ExecutionStatus
from cloacina.model.task import task
from cloacina.model.workflow import Workflow
from cloacina.store.rows import Command
from support.clock import until
from support.runners import Gate, outside, runner_on
from support.stores import interfere


class Late:
    """The call has its effect, and its answer comes when the test lets it."""

    def __init__(self) -> None:
        self.done, self._go_on = threading.Event(), threading.Event()

    def __call__(self, call: Callable[[], Any]) -> Any:
        answer = call()
        self.done.set()
        assert self._go_on.wait(20)
        return answer

    def release(self) -> None:
        self._go_on.set()


async def test_a_command_between_a_claim_and_its_answer_is_obeyed(tmp_path: Path) -> None:
    gate, late = Gate(), Late()
    workflow = Workflow("one", [task(gate.pass_through, id="it")])
    async with runner_on(tmp_path / "c.db", workflow, window=1) as runner:
        first = await runner.submit("one")
        await gate.reached()
        handle = await runner.submit("one")  # there is no room: it is stored without owner
        store = interfere(runner)
        store.plan("commit", late)  # the end of the first, and the claim
        gate.open()
        await until(late.done.is_set, "the claim")
        assert handle.id not in runner._engine.life.drivers
        now = runner._engine.clock.now()
        command = Command(new_id(now), handle.id, CommandKind.CANCEL, now)
        sent = outside(tmp_path / "c.db", lambda other: other.send(command))
        assert sent is not None and sent[1], "it was left for the owner"
        await runner._engine._obey()
        late.release()
        assert (await handle.result(timeout=20)).status is ExecutionStatus.CANCELLED
        assert (await first.result(timeout=20)).status is ExecutionStatus.COMPLETED
