"""Commands that come while their execution is just being claimed: whoever claims it has them, and loses none."""

from __future__ import annotations

import asyncio
from pathlib import Path

from cloacina.model.ids import new_id
from cloacina.model.status import CommandKind, ExecutionStatus
from cloacina.model.task import task
from cloacina.model.workflow import Workflow
from cloacina.store.rows import Command
from support.clock import turn
from support.runners import Gate, outside, runner_on
from support.stores import Hold, Late, interfere


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
        await late.reached()
        assert handle.id not in runner._engine.life.drivers
        now = runner._engine.clock.now()
        command = Command(new_id(now), handle.id, CommandKind.CANCEL, now)
        sent = outside(tmp_path / "c.db", lambda other: other.send(command))
        assert sent is not None and sent[1], "it was left for the owner"
        await runner._engine._obey()
        late.release()
        assert (await handle.result(timeout=20)).status is ExecutionStatus.CANCELLED
        assert (await first.result(timeout=20)).status is ExecutionStatus.COMPLETED


async def test_who_commands_what_is_just_being_claimed_here_is_told_when_it_is_obeyed(tmp_path: Path) -> None:
    """No clock moves: nobody polls."""
    gate, late, next_group = Gate(), Late(), Hold()
    workflow = Workflow("one", [task(gate.pass_through, id="it")])
    closed = Workflow("other", [task(Gate().pass_through, id="it")])
    async with runner_on(tmp_path / "c.db", workflow, closed, window=1) as runner:
        await runner.submit("one")
        await gate.reached()
        handle = await runner.submit("other")
        interfere(runner).plan("commit", late, next_group)
        gate.open()
        await late.reached()
        cancelling = asyncio.create_task(handle.cancel())
        await turn()
        assert handle.id not in runner._engine.life.drivers
        late.release()
        await next_group.reached()
        for _ in range(5):  # it is left for the owner, and not obeyed yet
            await runner._engine.means.reader.run(lambda store: None)
            await turn()
        next_group.release()
        assert await asyncio.wait_for(cancelling, 20) is ExecutionStatus.CANCELLED
