"""Ids: UUIDs of version 7 that grow within a process."""

from __future__ import annotations

import uuid

import pytest

from cloacina.model import ids
from cloacina.model.ids import new_id
from support.script import Script

NOW = 1_700_000_000_000_000


@pytest.fixture(autouse=True)
def fresh() -> None:
    """What other tests made must not count."""
    ids._forget()


@pytest.mark.parametrize("now", [1, 999, 1000, NOW, NOW + 1, 2**47 * 1000])
def test_they_are_uuids_of_version_7_for_their_millisecond(now: int) -> None:
    text = new_id(now)
    found = uuid.UUID(text)
    assert str(found) == text
    assert (found.version, found.variant) == (7, uuid.RFC_4122)
    assert found.int >> 80 == now // 1000


def test_they_grow_within_a_millisecond_and_when_the_clock_runs_back() -> None:
    made = [new_id(NOW - n // 3) for n in range(5000)]
    assert made == sorted(made)
    assert len(set(made)) == 5000
    assert {uuid.UUID(id).version for id in made} == {7}


def test_they_never_repeat_when_the_random_part_is_used_up() -> None:
    ids._last = ((NOW // 1000) << 74) | ((1 << 74) - 2)
    made = [new_id(NOW) for _ in range(10)]
    assert made == sorted(set(made))


def test_a_forked_child_draws_afresh(script: Script) -> None:
    done = script(
        """
        import os
        from cloacina.model import ids
        ids.new_id(2**60)
        if os.fork() == 0:
            os._exit(0 if ids._last == 0 else 1)
        print(os.wait()[1])
        """
    )
    assert (done.stdout, done.stderr) == ("0\n", "")
