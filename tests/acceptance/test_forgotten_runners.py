"""Runners that nobody shut down: the process ends all the same, quietly, and the next one goes on with the work."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.script import run_script

WORK = """
    import asyncio, importlib, logging, multiprocessing, os, sys, time
    from pathlib import Path
    from cloacina import BlockingRunner, Context, Runner, Workflow

    logging.getLogger("cloacina").setLevel(logging.CRITICAL)
    workflow = Workflow("work")

    @workflow.task
    def on_a_thread(ctx: Context) -> None:
        while not Path("go").exists():
            time.sleep(0.01)
        ctx["thread"] = True

    @workflow.task
    async def on_the_loop(ctx: Context) -> None:
        while not Path("go").exists():
            await asyncio.sleep(0.01)
        ctx["loop"] = True

    async def begin() -> Runner:
        runner = Runner("host.db", workflows=[workflow])
        await runner.start()
        handle = await runner.submit(workflow)
        while len((await runner.get(handle.id)).tasks["on_a_thread"].history) == 0:
            await asyncio.sleep(0.01)
        return runner

    def begin_blocking() -> BlockingRunner:
        runner = BlockingRunner("host.db", workflows=[workflow])
        runner.start()
        runner.submit(workflow)
        return runner
"""

STYLES = {
    "the loop ends": """
    asyncio.run(begin())
    """,
    "kept in a global": """
    kept = asyncio.run(begin())
    """,
    "an error leaves the loop": """
    async def fail() -> None:
        await begin()
        raise KeyError("mine")

    try:
        asyncio.run(fail())
    except KeyError:
        pass
    """,
    "sys.exit in a coroutine": """
    async def leave() -> None:
        await begin()
        sys.exit(0)

    asyncio.run(leave())
    """,
    "a blocking one": """
    kept = begin_blocking()
    """,
    "a module that is loaded again": """
    text = Path("script.py").read_text("utf-8").partition("# the end of what is loaded")[0]
    Path("app.py").write_text(text + "runner = begin_blocking()\\n", "utf-8")
    import app
    importlib.reload(app)
    """,
    "a spawned process": """
    def child() -> None:
        begin_blocking()

    if __name__ == "__main__":
        process = multiprocessing.get_context("spawn").Process(target=child)
        process.start()
        process.join()
        sys.exit(process.exitcode)
    """,
}
END_OF_WORK = "    # the end of what is loaded\n"

FINISH = """
    Path("go").touch()
    with BlockingRunner("host.db", workflows=[workflow]) as runner:
        executions = runner.list()
        results = [runner.result(execution.id) for execution in executions]
    assert len(results) >= 1, results
    told = [(result.status, result.error, {id: t.history for id, t in result.tasks.items()}) for result in results]
    assert {result.status for result in results} == {"completed"}, told
    assert all(result.context.to_dict() == {"thread": True, "loop": True} for result in results), told
"""


@pytest.mark.parametrize("times", [1, pytest.param(40, marks=pytest.mark.campaign)])
@pytest.mark.parametrize("style", STYLES)
def test_a_process_ends_although_its_runner_was_forgotten(style: str, times: int, tmp_path: Path) -> None:
    for number in range(times):
        folder = tmp_path / str(number)
        folder.mkdir()
        for then in (STYLES[style], FINISH):
            ended = run_script(folder, WORK + END_OF_WORK + then)
            assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", ""), ended.stderr
