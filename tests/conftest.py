"""Fixtures and profiles for every test."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from support.script import Script, run_script

pytest_plugins = ["support.postgres.fixtures"]

# A loaded machine is slow, and slowness is no failure; examples are not kept outside the tests' own source.
settings.register_profile(
    "everyday",
    max_examples=60,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("everyday")


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings of whoever runs the tests must not change what they test."""
    for name in [known for known in os.environ if known.startswith("CLOACINA_") or known == "DATABASE_URL"]:
        monkeypatch.delenv(name)


@pytest.fixture
def script(tmp_path: Path) -> Script:
    """Runs Python source in a process and a folder of its own: see `run_script`."""
    return partial(run_script, tmp_path)
