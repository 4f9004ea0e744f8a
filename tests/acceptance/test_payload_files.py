"""Payload files and kills: whatever the moment, no committed row names a file that is not there, whole."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from acceptance.support.campaign import campaign
from support.script import Script

PROGRAM = '''
    """Dies before the n-th step on a payload file (0: never); says which executions were acknowledged."""
    import asyncio, os, signal, sys
    from pathlib import Path

    from cloacina import Context, Runner, Settings, Workflow
    from cloacina.store.payloads import Compression, Encryption, Offload, Payloads, folder

    left = int(sys.argv[1])

    def deadly(step):
        def one(*args, **options):
            global left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return step(*args, **options)
        return one

    folder._write, folder._sync = deadly(folder._write), deadly(folder._sync)
    Path.replace, Path.mkdir = deadly(Path.replace), deadly(Path.mkdir)

    work = Workflow("work")

    @work.task
    async def first(ctx: Context) -> None:
        ctx["first"] = os.urandom(2_000).hex()

    @work.task(dependencies=[first])
    async def second(ctx: Context) -> None:
        ctx["second"] = ctx["first"][::-1]

    payloads = Payloads([Compression(), Encryption({"k": b"k" * 32}, "k"), Offload(over=1_000)])

    async def main() -> None:
        async with Runner("w.db", workflows=[work], payloads=payloads, settings=Settings(poll_interval=0.02)) as runner:
            for n in range(int(sys.argv[2])):
                handle = await runner.submit(work, {"n": n, "given": os.urandom(2_000).hex()})
                print("acked", handle.id, flush=True)
                await handle.result()
            for info in await runner.list():
                result = await runner.result(info.id)
                assert result.context["second"] == result.context["first"][::-1], result.id
                print("read", result.id, flush=True)

    asyncio.run(main())
'''


@pytest.mark.parametrize("step", [7, campaign(1)])
def test_a_kill_at_any_step_of_a_file_loses_nothing(script: Script, tmp_path: Path, step: int) -> None:
    acknowledged: set[str] = set()
    deaths = 0
    while True:
        ended = script(PROGRAM, str(1 + deaths * step), "2")
        acknowledged |= told(ended.stdout, "acked")
        if ended.returncode == 0:
            break
        assert ended.returncode == -signal.SIGKILL, ended.stderr
        deaths += 1
        after = script(PROGRAM, "0", "0")
        assert after.returncode == 0, after.stderr
        assert told(after.stdout, "read") >= acknowledged
    assert deaths >= 40 // step
    assert acknowledged
    unfinished = [path for path in tmp_path.rglob("w.db-payloads/*/.*") if path.is_file()]
    assert len(unfinished) <= deaths


def told(printed: str, what: str) -> set[str]:
    return {line.split()[1] for line in printed.splitlines() if line.startswith(what)}
