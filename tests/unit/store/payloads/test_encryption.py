"""Encryption: nothing but the right key in the right place reads a payload, and keys are told to nobody."""

from __future__ import annotations

import builtins
import pickle
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cloacina.errors import CloacinaError, MissingExtra, PayloadError, ValidationError
from cloacina.store.payloads import Encryption, PayloadHome, PayloadPlace, Payloads
from cloacina.store.payloads.keys import new_key
from support.payloads import KEY, OTHER_KEY, encryption, place

TEXT = '{"name": "a canary", "n": [1, 2, 3]}'
PLACE = PayloadPlace(PayloadHome("db", None), "x1", "attempts.delta", "task", 1)


def test_a_change_of_any_character_is_refused() -> None:
    payloads = Payloads([encryption()])
    stored = payloads.encode(TEXT, PLACE)
    for position in range(len(stored)):
        for other in {"A", "b", "/", "=", chr(ord(stored[position]) ^ 1)} - {stored[position]}:
            changed = stored[:position] + other + stored[position + 1 :]
            if not changed.startswith("!"):
                continue  # that is plain text then, which is no JSON
            with pytest.raises(PayloadError, match="cannot be read"):
                payloads.decode(changed, PLACE)


@pytest.mark.parametrize("cut", range(0, 40, 3))
def test_a_payload_that_is_cut_is_refused(cut: int) -> None:
    stored = encryption().encode(TEXT.encode(), PLACE)
    assert stored is not None
    with pytest.raises(PayloadError):
        encryption().decode(stored[:cut], PLACE)
    with pytest.raises(PayloadError):
        encryption().decode(stored[: -cut - 1], PLACE)


@pytest.mark.parametrize(
    "elsewhere",
    [
        PLACE._replace(home=PayloadHome("another database", None)),
        PLACE._replace(execution="x2"),
        PLACE._replace(column="executions.result"),
        PLACE._replace(task="other"),
        PLACE._replace(attempt=2),
        PLACE._replace(name="n"),
    ],
    ids=["tenant", "execution", "column", "task", "attempt", "name"],
)
def test_a_payload_is_read_in_its_own_place_only(elsewhere: PayloadPlace) -> None:
    payloads = Payloads([encryption()])
    stored = payloads.encode(TEXT, PLACE)
    assert payloads.decode(stored, PLACE) == TEXT
    with pytest.raises(PayloadError, match="changed or moved from elsewhere"):
        payloads.decode(stored, elsewhere)


def test_places_that_read_alike_joined_are_not_alike() -> None:
    one, other = PLACE._replace(task="a", name="bc"), PLACE._replace(task="ab", name="c")
    assert one.identity() != other.identity()
    assert one.identity("x", "y") != one.identity("xy")
    assert one.identity() != one._replace(home=PayloadHome("another database", None)).identity()


def test_the_same_text_is_stored_differently_each_time() -> None:
    payloads = Payloads([encryption()])
    assert len({payloads.encode(TEXT, PLACE) for _ in range(50)}) == 50


def test_old_keys_read_and_the_current_one_writes() -> None:
    old, both, new = encryption("old"), encryption("new", "old"), encryption("new")
    before, after = old.encode(b"1", PLACE), both.encode(b"2", PLACE)
    assert before is not None and after is not None
    assert both.decode(before, PLACE) == b"1"
    assert new.decode(after, PLACE) == b"2"
    with pytest.raises(PayloadError, match="encrypted with key 'old', and Encryption was given 'new'"):
        new.decode(before, PLACE)


def test_another_key_under_the_same_id_is_refused() -> None:
    stored = Encryption({"k": KEY}, "k").encode(b"1", PLACE)
    assert stored is not None
    with pytest.raises(PayloadError, match="key 'k' is another now"):
        Encryption({"k": OTHER_KEY}, "k").decode(stored, PLACE)


def test_without_a_current_key_it_only_reads() -> None:
    stored = Payloads([encryption()]).encode(TEXT, PLACE)
    reads = Payloads([encryption(current=None)])
    assert reads.decode(stored, PLACE) == TEXT
    assert reads.encode(TEXT, PLACE) == TEXT


BAD: list[Callable[[], object]] = [
    lambda: Encryption({}, "k"),
    lambda: Encryption({"k": b"canary" * 2}, "k"),
    lambda: Encryption({"k": "canary" * 8}, "k"),  # type: ignore[dict-item]
    lambda: Encryption({"k": b"canary78" * 4}, "other"),
    lambda: Encryption({"canary " * 2: b"canary78" * 4}, "k"),
    lambda: Encryption([b"canary78" * 4], "k"),  # type: ignore[arg-type]
    lambda: Encryption.from_environment(environ={}),
    lambda: Encryption.from_environment(environ={"CLOACINA_PAYLOAD_KEYS": ""}),
    lambda: Encryption.from_environment(environ={"CLOACINA_PAYLOAD_KEYS": "canary"}),
    lambda: Encryption.from_environment(environ={"CLOACINA_PAYLOAD_KEYS": "k:Y2FuYXJ5"}),
    lambda: Encryption.from_environment(environ={"CLOACINA_PAYLOAD_KEYS": f"canary canary:{new_key()}"}),
    lambda: Encryption.from_environment(environ={"CLOACINA_PAYLOAD_KEYS": f"k:{new_key()},k:{new_key()}"}),
]


@pytest.mark.parametrize("make", BAD)
def test_bad_keys_are_refused_and_not_told(make: Callable[[], object]) -> None:
    with pytest.raises(ValidationError) as caught:
        make()
    told = "".join(traceback.format_exception(caught.value, limit=0))
    assert "canary" not in told.lower() and "Y2FuYXJ5" not in told


def test_nothing_shows_a_key() -> None:
    codec = Encryption({"k": b"canary78" * 4}, "k")
    assert "canary" not in f"{codec!r} {codec} {Payloads([codec])!r}"
    assert repr(codec) == "Encryption(keys='k', current='k')"
    with pytest.raises(TypeError, match="keys are not pickled"):
        pickle.dumps(codec)


def test_keys_come_from_the_environment() -> None:
    new, old = new_key(), new_key()
    written = Encryption.from_environment(environ={"CLOACINA_PAYLOAD_KEYS": f"old:{old}"}).encode(b"1", PLACE)
    both = Encryption.from_environment("KEYS", environ={"KEYS": f" new:{new}, old:{old}\n"})
    assert repr(both) == "Encryption(keys='new', 'old', current='new')"
    assert written is not None and both.decode(written, PLACE) == b"1"


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    path.touch(mode=0o600)
    path.write_text(f"# the current one is first\nnew:{new_key()}\n\nold:{new_key()}  # until June\n")
    return path


def test_keys_come_from_a_file(key_file: Path) -> None:
    assert repr(Encryption.from_file(key_file)) == "Encryption(keys='new', 'old', current='new')"
    key_file.chmod(0o400)
    assert Encryption.from_file(str(key_file))


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o620, 0o602, 0o604, 0o666, 0o610])
def test_a_key_file_that_others_may_use_is_refused(key_file: Path, mode: int) -> None:
    key_file.chmod(mode)
    with pytest.raises(ValidationError, match=f"mode {mode:04o} .*chmod 600"):
        Encryption.from_file(key_file)


def test_a_key_file_that_is_none_is_refused(tmp_path: Path) -> None:
    for path, why in (
        (tmp_path / "none", "cannot be read: .*No such file"),
        (tmp_path, "not an ordinary file"),
        ("a\0b", "null"),
    ):
        with pytest.raises(ValidationError, match=why):
            Encryption.from_file(path)
    (tmp_path / "empty").touch(mode=0o600)
    with pytest.raises(ValidationError, match="holds no key"):
        Encryption.from_file(tmp_path / "empty")


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any) -> Any:
        if name.startswith("cryptography"):
            raise ImportError(name)
        return real(name, *args)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtra, match=r"pip install 'cloacina\[signing\]'") as caught:
        encryption()
    assert isinstance(caught.value, CloacinaError) and isinstance(caught.value, ImportError)


def test_each_execution_has_a_key_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a nonce that is drawn twice in a database would be one too many."""
    used: list[bytes] = []
    codec: Any = encryption()
    real = codec._cipher
    monkeypatch.setattr(codec, "_cipher", lambda key: used.append(key) or real(key))
    for where in (place("x1"), place("x1", "executions.result"), place("x2"), place("x2", instance="other")):
        codec.encode(b"1", where)
    assert used[0] == used[1] and len(set(used)) == 3
