"""Bodies for child processes: they stand in a module of their own, so that a child can import them.

Each says that it runs by touching the file ``ctx["begun"]``, if there is one.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, TypedDict

from cloacina.errors import PermanentError, TransientError
from cloacina.model.context.context import Context


def begins(ctx: Context) -> None:
    if "begun" in ctx:
        Path(ctx["begun"]).write_text(f"{os.getpid()}")


def says_pid(ctx: Context) -> None:
    begins(ctx)
    ctx["pid"] = os.getpid()


async def says_pid_async(ctx: Context) -> None:
    await asyncio.sleep(0)
    ctx["pid"] = os.getpid()


def touches_everything(ctx: Context) -> Context:
    ctx["list"].append(len(ctx["list"]))
    ctx["object"]["new"] = {"deep": [1.5, None, True]}
    del ctx["gone"]
    ctx["number"] = 2**200 + ctx["number"]
    ctx["text"] = ctx["text"] + "\u2028🦀"
    return ctx


def grows(ctx: Context) -> None:
    for n in range(4):
        ctx[f"made{n}"] = ctx[f"given{n}"][::-1]


# Ends of a process.


def segfaults(ctx: Context) -> None:
    _no_core()
    ctypes.string_at(0)


def aborts(ctx: Context) -> None:
    _no_core()
    os.abort()


def is_signalled(ctx: Context) -> None:
    _no_core()
    os.kill(os.getpid(), signal.Signals[ctx["signal"]])


def exits(ctx: Context) -> None:
    os._exit(ctx["code"])


def crashes_if_told(ctx: Context) -> None:
    if ctx["crashes"]:
        segfaults(ctx)
    ctx["pid"] = os.getpid()


def crashes_once(ctx: Context) -> None:
    """The first attempt crashes, the second one completes."""
    mark = Path(ctx["mark"])
    if not mark.exists():
        mark.touch()
        segfaults(ctx)
    ctx["survived"] = True


def is_out_of_memory(ctx: Context) -> None:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 100_000_000, resource.RLIM_INFINITY))
    hoard = list[bytearray]()
    while True:
        hoard.append(bytearray(10_000_000))


def _no_core() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


# Errors.


class Unpicklable(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__("no way")
        self.lock = threading.Lock()
        self.secret = lambda: (one, two)


class MuteStr(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class Custom(BaseException):
    pass


ERRORS: dict[str, Any] = {
    "ValueError": lambda: ValueError("bad"),
    "KeyError": lambda: KeyError("missing"),
    "ConnectionError": lambda: ConnectionResetError("reset"),
    "TransientError": lambda: TransientError("later"),
    "PermanentError": lambda: PermanentError("never"),
    "group": lambda: ExceptionGroup(
        "both", [ValueError("one"), UnicodeDecodeError("utf-8", b"x", 0, 1, "no")]
    ),
    "unpicklable": lambda: Unpicklable(1, 2),
    "mute": MuteStr,
    "10 MB": lambda: ValueError("x" * 10_000_000),
    "surrogates": lambda: ValueError("a\ud800b\0c"),
    "SystemExit": lambda: SystemExit(3),
    "KeyboardInterrupt": KeyboardInterrupt,
    "CancelledError": asyncio.CancelledError,
    "GeneratorExit": GeneratorExit,
    "custom BaseException": lambda: Custom("custom"),
    "StopIteration": lambda: StopIteration(7),
    "RecursionError": lambda: recurses(),
}


def recurses() -> Any:
    return recurses()


def _count(ctx: Context) -> None:
    with open(ctx["calls"], "a") as file:
        file.write("x")


def raises(ctx: Context) -> None:
    _count(ctx)
    raise ERRORS[ctx["error"]]()


async def raises_async(ctx: Context) -> None:
    raises(ctx)


def is_value_error(error: Exception) -> bool:
    return isinstance(error, ValueError)


def refuses_to_say(error: Exception) -> bool:
    raise RuntimeError("no opinion")


def returns_something(ctx: Context) -> int:
    return 7


returns_something.__annotations__.clear()


async def leaves_a_coroutine(ctx: Context) -> Any:
    return says_pid_async(ctx)


def keeps_what_cannot_be_stored(ctx: Context) -> None:
    ctx["list"].append(object())


# Bodies that do not end.


def loops(ctx: Context) -> None:
    begins(ctx)
    while True:
        pass


def loops_whatever_comes(ctx: Context) -> None:
    begins(ctx)
    while True:
        with contextlib.suppress(BaseException):
            while True:
                pass


def holds_all_threads_up(ctx: Context) -> None:
    """Stuck in C, with the interpreter's lock."""
    begins(ctx)
    ctypes.PyDLL(None).sleep(1_000)


def sleeps(ctx: Context) -> None:
    begins(ctx)
    time.sleep(1_000)


def sleeps_once(ctx: Context) -> None:
    """The first attempt has to be stopped, the second one completes."""
    begun = Path(ctx["begun"])
    if not begun.exists():
        begun.touch()
        time.sleep(1_000)
    ctx["ended"] = True


def tidies(ctx: Context) -> None:
    begins(ctx)
    try:
        time.sleep(1_000)
    finally:
        Path(ctx["tidied"]).touch()


def tidies_slowly(ctx: Context) -> None:
    begins(ctx)
    try:
        time.sleep(1_000)
    finally:
        Path(ctx["tidying"]).touch()
        while not Path(ctx["go"]).exists():
            time.sleep(0.001)
        Path(ctx["tidied"]).touch()


def leaves_a_thread(ctx: Context) -> None:
    """The process cannot end by itself after this."""
    threading.Thread(target=time.sleep, args=(1_000,)).start()
    sleeps(ctx)


async def tidies_async(ctx: Context) -> None:
    begins(ctx)
    try:
        await asyncio.sleep(1_000)
    except asyncio.CancelledError:
        Path(ctx["tidied"]).touch()
        raise


def ignores_strangers(ctx: Context) -> None:
    """Signals that the runner did not send change nothing."""
    for number in (signal.SIGTERM, signal.SIGINT):
        os.kill(os.getpid(), number)
        time.sleep(0)
    ctx["ended"] = True


def waits_for(ctx: Context) -> None:
    begins(ctx)
    while not Path(ctx["go"]).exists():
        time.sleep(0.001)
    ctx["ended"] = True


# Bodies that do things to what is not theirs.


def prints(ctx: Context) -> None:
    print("by print")
    os.write(1, b"by write\n")
    ctypes.CDLL(None).puts(b"by puts")
    print("to stderr", file=sys.stderr)
    ctypes.CDLL(None).fflush(None)


def writes_into_every_descriptor(ctx: Context) -> None:
    for fd in range(3, 100):
        with contextlib.suppress(OSError):
            os.write(fd, b"\0\0\0\7garbage")


def closes_every_descriptor(ctx: Context) -> None:
    os.closerange(3, 1000)
    time.sleep(1_000)


def forks(ctx: Context) -> None:
    """Returns twice."""
    child = os.fork()
    if child:
        os.waitpid(child, 0)
    ctx["pid"] = os.getpid()


def starts_another(ctx: Context) -> None:
    """Starts a program that holds the other end of a FIFO open, and crashes or waits."""
    with open(ctx["fifo"], "wb") as fifo:
        subprocess.Popen(["sleep", "1000"], stdout=fifo, start_new_session=False)
    begins(ctx)
    if ctx["crashes"]:
        segfaults(ctx)
    time.sleep(1_000)


def closes_its_streams(ctx: Context) -> None:
    sys.stdout.close()
    sys.stderr.close()
    ctx["pid"] = os.getpid()


def logs(ctx: Context) -> None:
    logging.getLogger("mine").warning("said in a child")


# Checkpoints.


def checkpoints(ctx: Context) -> None:
    """Makes a value once; the first attempt crashes after that."""

    def make() -> int:
        _count(ctx)
        return ctx["number"] + 1

    ctx["made"] = ctx.checkpoint("value", make)
    crashes_once(ctx)


async def checkpoints_async(ctx: Context) -> None:
    async def make() -> int:
        _count(ctx)
        return int(ctx["number"]) + 1

    ctx["made"] = await ctx.checkpoint("value", make)
    crashes_once(ctx)


def checkpoints_badly(ctx: Context) -> None:
    _count(ctx)
    ctx.checkpoint("value", object)


class Input(TypedDict):
    n: int


def forgets_n(ctx: Context) -> None:
    ctx["n"] = 0


def reads_input(ctx: Context) -> None:
    ctx["was"] = ctx.input(Input)["n"]
