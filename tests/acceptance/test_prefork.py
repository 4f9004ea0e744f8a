"""Forks: a child of a process whose runner runs is told what to do; children that start their own runner work."""

from __future__ import annotations

import pytest

from support.script import Script

OFTEN = pytest.param(100, marks=pytest.mark.campaign)

START = """
    import asyncio, contextlib, logging, multiprocessing, os, signal, sys, warnings
    from cloacina import BlockingRunner, Context, Runner, Workflow
    from cloacina.errors import ForkedProcess

    warnings.simplefilter("ignore", DeprecationWarning)  # what Python says of forks beside threads
    logging.getLogger("cloacina").setLevel(logging.ERROR)  # a runner that stops may wait for another's body

    hello = Workflow("hello")

    @hello.task
    def greet(ctx: Context) -> None:
        ctx["from"] = os.getpid()

    @hello.task(dependencies=[greet])
    async def again(ctx: Context) -> None:
        ctx["again"] = True

    def told(action):
        try:
            action()
        except ForkedProcess as error:
            assert "after the fork" in str(error) or "open afterwards" in str(error), error
            return True
        except BaseException as error:
            print("not refused:", repr(error), flush=True)
        return False

    def child_by_fork(work):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                signal.alarm(30)
                code = work()
            finally:
                os._exit(code)
        return lambda: os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def child_by_multiprocessing(work):
        def run():
            signal.alarm(30)
            sys.exit(work())
        process = multiprocessing.get_context("fork").Process(target=run)
        process.start()
        def ended():
            process.join()
            return process.exitcode
        return ended
"""

BLOCKING = """
    runner = BlockingRunner("host.db", workflows=[hello])
    with runner:
        first = runner.execute(hello)
        beside = runner.submit(hello)

        def use():
            refused = [
                told(lambda: runner.execute(hello)),
                told(lambda: runner.submit(hello)),
                told(lambda: runner.status(beside.id)),
                told(beside.result),
                told(lambda: runner.list()),
                told(lambda: BlockingRunner("host.db").start()),
            ]
            runner.shutdown()  # nothing is closed
            runner.__exit__(None, None, None)
            return 0 if all(refused) else 2

        for _ in range({times}):
            assert {child}(use)() == 0
            assert runner.execute(hello).context["from"] == os.getpid()
        assert beside.result().context["again"]
        assert len(runner.list(limit=1000)) == 2 + {times}
"""

ASYNCHRONOUS = """
    async def main():
        async with Runner("host.db", workflows=[hello]) as runner:
            handle = await runner.submit(hello)
            blocking = runner.blocking

            async def use():
                refused = 0
                calls = [runner.submit(hello), runner.execute(hello), runner.list()]
                for call in (*calls, handle.result(), handle.cancel()):
                    try:
                        await call
                    except ForkedProcess as error:
                        refused += "start one after the fork" in str(error)
                refused += told(lambda: runner.blocking) + told(lambda: blocking.list())
                await runner.shutdown()
                return 0 if refused == 7 else 2

            for _ in range({times}):
                pid = os.fork()
                if pid == 0:
                    # The child is in the middle of the loop's run, as after a fork in a body.
                    signal.alarm(30)
                    os._exit(await use())
                assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
                assert (await runner.execute(hello)).context["again"]
            assert (await handle.result()).context["again"]

    asyncio.run(main())
"""

PREFORK = """
    made = BlockingRunner("host.db", workflows=[hello])  # with the application; nothing is opened yet

    def serve():
        with made as runner:
            seen = {{runner.execute(hello).context["from"] for _ in range(5)}}
        return 0 if seen else 2

    for _ in range({times}):
        workers = [{child}(serve) for _ in range(4)]
        assert [ended() for ended in workers] == [0] * 4
    with made as runner:
        results = runner.list(limit=10_000)
        assert len(results) == 20 * {times}
        assert {{result.status for result in results}} == {{"completed"}}
"""

CHILDREN = ["child_by_fork", "child_by_multiprocessing"]


@pytest.mark.parametrize("times", [3, OFTEN])
@pytest.mark.parametrize("child", CHILDREN)
@pytest.mark.parametrize("host", [BLOCKING, PREFORK], ids=["started before", "started after"])
def test_children_of_a_host(host: str, child: str, times: int, script: Script) -> None:
    ended = script(START + host.format(times=times, child=child))
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


@pytest.mark.parametrize("times", [3, OFTEN])
def test_a_fork_in_the_middle_of_a_loop(times: int, script: Script) -> None:
    ended = script(START + ASYNCHRONOUS.format(times=times))
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
