"""Every example runs on its own, in an empty folder, without arguments; and with the flags in the table.

One that reads ``DATABASE_URL`` runs on PostgreSQL too.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from support.script import run_file

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
ON_A_SERVER = [path for path in EXAMPLES if "DATABASE_URL" in path.read_text("utf-8")]
NAMES = {
    "01_first_workflow.py",
    "02_context.py",
    "03_dependencies.py",
    "04_resilient_pipeline.py",
    "05_crash_and_resume.py",
    "06_checkpoints.py",
    "07_retry_after_failure.py",
    "etl_real.py",
    "process_bodies.py",
    "tenants.py",
    "web_and_worker.py",
}

PIPELINE, HIGH, LOW = "04_resilient_pipeline.py", "✅ high_quality_processing", "✅ low_quality_processing"

WITH_FLAGS: list[tuple[str, list[str], int, list[str]]] = [
    (PIPELINE, ["--fetch-failure", "0"], 0, ["Pipeline completed", HIGH, "⏭️ cached_data: skipped"]),
    (PIPELINE, ["--fetch-failure", "0", "--quality", "60"], 0, ["Pipeline completed", LOW, "'external'"]),
    (
        PIPELINE,
        ["--fetch-failure", "1", "--cache-failure", "0"],
        0,
        ["Pipeline completed", "❌ fetch_data: failed (3 attempts)", "✅ cached_data", LOW, "'cache'"],
    ),
    (
        PIPELINE,
        ["--fetch-failure", "1", "--cache-failure", "1"],
        0,
        ["Pipeline failed", "✅ failure_notification", "⏭️ final_report: skipped", "dependency_failed"],
    ),
    (PIPELINE, ["--seed", "3", "--fetch-failure", "0.5"], 0, ["Pipeline "]),
    (
        "06_checkpoints.py",
        [],
        0,
        ["attempt 2: interrupted deferred", "There is one order in the shop's book."],
    ),
    ("web_and_worker.py", [], 0, ["completed: Rome: 14.0", "failed: the input of workflow 'report'"]),
    (
        "07_retry_after_failure.py",
        [],
        0,
        [
            "would do again ship, apologise, thank",
            "order C3 is on its way to Lima",
            "never twice: A1, B2, C3",
        ],
    ),
    ("etl_real.py", ["--lines", "4000", "--bad", "0"], 0, ["4000 lines", "'rejected': 0"]),
    ("etl_real.py", ["--lines", "100", "--bad", "1"], 0, ["100 lines, 0 totals", "'rejected': 100"]),
]
"""Example, arguments, exit code, and texts that its output has."""


def test_every_example_is_there() -> None:
    assert {path.name for path in EXAMPLES} >= NAMES


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_runs(path: Path, tmp_path: Path) -> None:
    ended = run_file(path, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.strip()


@pytest.mark.parametrize("path", ON_A_SERVER, ids=lambda path: path.name)
def test_an_example_runs_on_postgresql(path: Path, tmp_path: Path, database_of: Callable[[str], str]) -> None:
    ended = run_file(path, cwd=tmp_path, variables={"DATABASE_URL": database_of(path.name)})
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.strip()


@pytest.mark.parametrize(
    ("name", "flags", "code", "texts"), WITH_FLAGS, ids=lambda value: str(value) if value else None
)
def test_an_example_with_flags(
    name: str, flags: list[str], code: int, texts: list[str], tmp_path: Path
) -> None:
    ended = run_file(ROOT / "examples" / name, *flags, cwd=tmp_path)
    assert ended.returncode == code, ended.stdout + ended.stderr
    assert [text for text in texts if text not in ended.stdout] == [], ended.stdout
