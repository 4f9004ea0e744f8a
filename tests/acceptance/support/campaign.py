"""The campaign: versions of the everyday tests that take many minutes, run by ``./dev test -m campaign``."""

from __future__ import annotations

from typing import Any

import pytest


def campaign(*values: Any, id: str | None = None) -> Any:
    """Parameters of a test that is part of the campaign only, and may take as long as it takes."""
    return pytest.param(*values, id=id, marks=[pytest.mark.campaign, pytest.mark.timeout(0)])
