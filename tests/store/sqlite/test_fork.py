"""A forked child: it is told what to do, and closes nothing of its parent's."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection as Pipe
from pathlib import Path

import pytest

from cloacina.model.status import Reason
from cloacina.store.location import parse_location
from cloacina.store.rows import ExecutionFilter
from cloacina.store.sqlite.database import Database
from store.make import Stores, submit


def told(action: Callable[[], object]) -> str:
    try:
        action()
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


def use(pipe: Pipe, stores: Stores, path: Path) -> None:
    """In the child: use what was inherited in every way, and send what was said."""
    messages = [
        told(lambda: stores.commit(submit("child"))),
        told(lambda: stores.writer.recover("runner-1", Reason.CRASH, 1)),
        told(stores.writer.foreign_change),
        told(stores.writer.checkpoint_if_due),
        told(lambda: stores.reader.execution("e1")),
        told(lambda: stores.reader.executions(ExecutionFilter())),
        told(Database(parse_location(path)).writer),
        told(Database(parse_location(path)).reader),
    ]
    stores.reader.close()
    stores.writer.close()
    pipe.send(messages)


def by_os_fork(pipe: Pipe, stores: Stores, path: Path) -> None:
    child = os.fork()
    if child == 0:
        try:
            use(pipe, stores, path)
        finally:
            os._exit(0)
    os.waitpid(child, 0)


def by_multiprocessing(pipe: Pipe, stores: Stores, path: Path) -> None:
    process = multiprocessing.get_context("fork").Process(target=use, args=(pipe, stores, path))
    process.start()
    process.join()


@pytest.mark.parametrize("fork", [by_os_fork, by_multiprocessing])
def test_a_child_is_told_and_the_parent_goes_on(
    stores: Stores, path: Path, fork: Callable[[Pipe, Stores, Path], None]
) -> None:
    stores.commit(submit("e1"))
    receiver, sender = multiprocessing.Pipe(duplex=False)
    fork(sender, stores, path)
    messages: list[str] = receiver.recv()
    assert [message[:13] for message in messages] == ["ForkedProcess"] * 8
    assert all(str(path) in message and "'spawn'" in message for message in messages)
    stores.commit(submit("e2"))
    assert stores.get("e2").status


def test_a_database_that_was_closed_before_the_fork_may_be_opened(stores: Stores, path: Path) -> None:
    stores.reader.close()
    stores.writer.close()
    receiver, sender = multiprocessing.Pipe(duplex=False)

    def reopen() -> None:
        sender.send(told(lambda: Database(parse_location(path)).writer().close()))

    process = multiprocessing.get_context("fork").Process(target=reopen)
    process.start()
    process.join()
    assert receiver.recv() == "nothing"


IN_THE_MIDDLE_OF_A_COMMIT = """
import gc, os, signal, sys, threading
from cloacina.store.location import parse_location
from cloacina.store.rows import Group, RunnerRow
from cloacina.store.sqlite.database import Database

database = Database(parse_location(sys.argv[1]))
writer, reader = database.writer(), database.reader()
writer.register_runner(RunnerRow("r", "host", 1, 1, "alive", 0))

def descriptors():
    folder = "/dev/fd"
    return sorted(fd for fd in os.listdir(folder) if is_ours(f"{folder}/{fd}"))

def is_ours(link):
    try:
        return os.readlink(link).startswith(sys.argv[1])
    except OSError:
        return False

inside, forked = threading.Event(), threading.Event()

def in_commit():
    inside.set()
    forked.wait()
    return False

writer._connection._raw.set_commit_hook(in_commit)
thread = threading.Thread(target=writer.commit, args=(Group("r", 1, ()),))
thread.start()
inside.wait()
child = os.fork()
if child == 0:
    signal.alarm(20)
    before = descriptors()
    del writer, reader, thread, database
    gc.collect()
    assert descriptors() == before != []
    sys.exit(0)
forked.set()
thread.join()
assert os.waitpid(child, 0)[1] == 0, "see the child's own error"
writer._connection._raw.set_commit_hook(None)
writer.commit(Group("r", 2, ()))
assert os.path.exists(sys.argv[1] + "-wal")
reader.close()
writer.close()
"""


def test_a_child_forked_in_a_commit_ends_and_takes_nothing_with_it(path: Path) -> None:
    subprocess.run([sys.executable, "-c", IN_THE_MIDDLE_OF_A_COMMIT, str(path)], check=True, timeout=60)
