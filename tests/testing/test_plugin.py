"""The pytest plugin: its fixtures serve asynchronous and plain tests, and cost nothing where nobody asks for them."""

from __future__ import annotations

import tomllib
from importlib.metadata import entry_points
from pathlib import Path

from support.script import Script

ROOT = Path(__file__).resolve().parents[2]

SESSION = '''
import sys
from pathlib import Path

import pytest

Path("test_work.py").write_text("""
from cloacina import Context, Workflow
from cloacina.testing import BlockingTestRunner, TestRunner, assert_attempts, assert_completed, record

work = Workflow("work")

@work.task(retry_attempts=3, retry_delay_ms=3_600_000, retry_max_delay_ms=3_600_000)
async def step(ctx: Context) -> None:
    ctx["done"] = True

{mark}
async def test_asynchronous(cloacina_runner: TestRunner) -> None:
    await cloacina_runner.register(work)
    cloacina_runner.fail(step, times=2)
    assert_attempts(await cloacina_runner.execute(work), step, 3)

def test_plain(cloacina_blocking_runner: BlockingTestRunner) -> None:
    assert_completed(cloacina_blocking_runner.execute(work))

def test_file(cloacina_database: str) -> None:
    with BlockingTestRunner(work, url=cloacina_database) as runner:
        result = runner.execute(work)
    assert record(cloacina_database, result.id).stored.status == "completed"

def test_ends_badly(cloacina_blocking_runner: BlockingTestRunner) -> None:
    cloacina_blocking_runner.submit(work)
""")
plugins = {plugins}
ended = pytest.main(["-q", "-W", "error", "-p", "no:cacheprovider", *plugins])
sys.exit(ended)
'''


WITHOUT_ASYNCIO = """
from importlib import util
real = util.find_spec
util.find_spec = lambda name, *more: None if name == "pytest_asyncio" else real(name, *more)
"""


LOADED = [] if entry_points(group="pytest11", name="cloacina") else ["-p", "cloacina.testing.plugin"]
"""How pytest comes by the plugin: by itself, unless the package was installed before it had one."""


def test_it_is_an_entry_point() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["entry-points"]["pytest11"] == {"cloacina": "cloacina.testing.plugin"}


def test_fixtures_work_with_pytest_asyncio(script: Script) -> None:
    plugins = [*LOADED, "-p", "no:anyio", "-o", "asyncio_mode=strict"]
    plugins += ["-o", "asyncio_default_fixture_loop_scope=function"]
    mark = "import pytest\n@pytest.mark.asyncio"
    ended = script(SESSION.format(mark=mark, plugins=plugins))
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "4 passed" in ended.stdout


def test_fixtures_work_with_anyio_where_pytest_asyncio_is_not(script: Script) -> None:
    plugins = ["-p", "no:asyncio", *LOADED]
    mark = 'import pytest\nanyio_backend = pytest.fixture(lambda: "asyncio", name="anyio_backend")\n@pytest.mark.anyio'
    ended = script(WITHOUT_ASYNCIO + SESSION.format(mark=mark, plugins=plugins))
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "4 passed" in ended.stdout


def test_a_session_that_does_not_use_it_pays_nothing(script: Script) -> None:
    ended = script("""
        import sys
        import cloacina.testing.plugin
        assert not {"apsw", "cloacina.runner", "cloacina.engine"} & set(sys.modules)
        import cloacina.testing
        assert not {"apsw", "cloacina.runner", "cloacina.engine"} & set(sys.modules)
        assert dir(cloacina.testing) == sorted(cloacina.testing.__all__)
        for name in cloacina.testing.__all__:
            assert name == "FAILPOINTS" or getattr(cloacina.testing, name).__doc__, name
        try:
            cloacina.testing.nothing
        except AttributeError as error:
            assert "no attribute 'nothing'" in str(error)
        assert "pytest" in sys.modules
    """)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_the_kit_does_not_need_pytest(script: Script) -> None:
    ended = script("""
        import sys
        from cloacina.testing import TestRunner
        assert "pytest" not in sys.modules
    """)
    assert (ended.returncode, ended.stderr) == (0, "")
