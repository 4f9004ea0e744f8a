"""Programs whose bodies run in processes of their own: scripts, prompts, and programs that are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import cloacina
from acceptance.support.child import PATIENCE
from support.script import Script

SCRIPT = """
    import os
    import cloacina

    print("loaded as", __name__)
    work = cloacina.Workflow("work", retry=False)

    class Odd(Exception):
        pass

    @work.task(executor="process", retry=cloacina.RetryPolicy(max_attempts=2, initial_delay=0, retry_on=Odd))
    def body(ctx: cloacina.Context) -> None:
        ctx["pid"] = os.getpid()
        if ctx["raises"]:
            raise Odd

    GUARD
        for raises in (False, True):
            result = cloacina.run(work, {"raises": raises}, url="sqlite://:memory:")
            print(result.status, result.tasks["body"].attempts, result.context.get("pid") != os.getpid())
            print(result.error)
"""


def test_the_bodies_of_a_script_run_in_processes(script: Script) -> None:
    """Everything in it happens once a process, but for what stands below its guard."""
    ended = script(SCRIPT.replace("GUARD", 'if __name__ == "__main__":'))
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.splitlines() == [
        "loaded as __main__", "loaded as __mp_main__", "completed 1 True", "None",
        "loaded as __mp_main__", "failed 2 True", "body: __mp_main__.Odd",
    ]  # fmt: skip


def test_a_module_that_is_run_by_name(tmp_path: Path) -> None:
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "other.py").write_text("WORD = 'relative'")
    (package / "program.py").write_text(
        "from .other import WORD\n"
        "import cloacina, os\n"
        "work = cloacina.Workflow('work', retry=False)\n"
        "@work.task(executor='process')\n"
        "def body(ctx: cloacina.Context) -> None:\n"
        "    ctx['word'] = WORD\n"
        "if __name__ == '__main__':\n"
        "    print(cloacina.run(work, url='sqlite://:memory:').context['word'])\n"
    )
    command = [sys.executable, "-m", "package.program"]
    ended = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert (ended.stdout, ended.stderr) == ("relative\n", "")


def test_a_script_without_a_guard_fails_with_the_remedy(script: Script) -> None:
    ended = script(SCRIPT.replace("GUARD", "if True:"))
    assert ended.returncode == 0
    assert "body: cloacina.errors.PermanentError: __main__.body could not be loaded" in ended.stdout
    assert "put the lines that start it below `if __name__ == '__main__':`" in ended.stdout


@pytest.mark.parametrize("how", ["prompt", "argument"])
def test_what_was_typed_into_a_prompt_is_refused_with_the_remedy(how: str, tmp_path: Path) -> None:
    text = (
        "import cloacina\n"
        "work = cloacina.Workflow('work')\n"
        "def body(ctx): pass\n"
        "_ = work.task(body, executor='process')\n"
        "try: cloacina.run(work, url='sqlite://:memory:')\n"
        "except cloacina.errors.RegistrationError as error: print(error)\n\n"
    )
    command = [sys.executable, "-"] if how == "prompt" else [sys.executable, "-c", text]
    ended = subprocess.run(
        command, input=text if how == "prompt" else "", cwd=tmp_path, capture_output=True, text=True,
        timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert ended.stdout == (
        "workflow 'work', task 'body': it cannot run where executor='process' sends it: body was typed into a prompt "
        "or a notebook, and another process has no file to import it from: write it into a module of its own, and "
        "import that\n"
    ), ended.stderr


PARENT = """
    import asyncio, sys
    import cloacina
    from support import process_bodies as bodies

    async def main() -> None:
        work = cloacina.Workflow("work")
        for body in (bodies.loops, bodies.loops_whatever_comes, bodies.holds_all_threads_up, bodies.sleeps):
            work.task(body, executor="process")
        if "starts another" in sys.argv:
            work.task(bodies.starts_another, executor="process")
        settings = cloacina.Settings(process_slots=5, cancel_grace=0.1, shutdown_grace=0.1)
        async with cloacina.Runner("sqlite://:memory:", workflows=[work], settings=settings) as runner:
            await runner.submit(work, {"fifo": sys.argv[1], "crashes": False})
            executor = runner._engine.life.dispatcher.lanes["process"].executor
            while len([child for child in executor._children if child.begun]) < len(work.tasks):
                await asyncio.sleep(0.001)
            print("running", flush=True)
            await asyncio.to_thread(sys.stdin.read)

    asyncio.run(main())
"""


@pytest.mark.parametrize("signalled", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, None])
def test_no_process_survives_its_runner(signalled: signal.Signals | None, tmp_path: Path) -> None:
    """Each of them holds the same pipe open, and that ends.

    What a body started ends with it too, unless the runner is killed outright, which leaves nobody to see to it.
    """
    import textwrap

    fifo, path = tmp_path / "fifo", tmp_path / "script.py"
    os.mkfifo(fifo)
    path.write_text(textwrap.dedent(PARENT))
    held = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    os.set_blocking(held, True)
    alive, theirs = os.pipe()
    os.set_inheritable(theirs, True)
    folders = [str(Path(__file__).parents[1]), *(str(Path(folder).parent) for folder in cloacina.__path__)]
    extra = ["starts another"] if signalled in (signal.SIGINT, None) else []
    runner = subprocess.Popen(
        [sys.executable, str(path), str(fifo), *extra], stdin=subprocess.PIPE, stdout=theirs,
        stderr=subprocess.DEVNULL, cwd=tmp_path, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(folders)},
    )  # fmt: skip
    os.close(theirs)
    with open(alive) as output, open(held, "rb") as other:
        try:
            assert output.readline() == "running\n"
            if signalled is not None:
                runner.send_signal(signalled)
            assert runner.stdin is not None
            runner.stdin.close()
            assert output.read() == ""  # until the last process that inherited it is gone
            assert other.read() == b""
        finally:
            runner.kill()
            runner.wait()
