"""The program of a child process: it runs bodies for its runner, one at a time, until nobody wants more."""

from __future__ import annotations

import ctypes
import faulthandler
import os
import signal
import socket
import sys
from contextlib import suppress

from cloacina.engine.executors.process.bodies import Bodies
from cloacina.engine.executors.process.interrupt import Interrupt
from cloacina.engine.executors.process.wire import Hello, Link, Order
from cloacina.model.json.values import Limits
from cloacina.observe.logs import init_logging

PR_SET_PDEATHSIG = 1


def main(end: int, lifeline: int, parent: int) -> None:
    """Serve the runner in process ``parent``: ``end`` is a socket to it, ``lifeline`` a pipe that it holds open."""
    _die_with(parent)
    for fd in (end, lifeline):
        os.set_inheritable(fd, False)
    interrupt = Interrupt(lifeline)
    with suppress(Exception):  # where standard error is closed, a crash goes without its last words
        faulthandler.enable()
    # The body's own business is what it prints; the wire is a socket that nobody prints to.
    with socket.socket(fileno=end) as wire, suppress(OSError):
        link = Link(wire)
        hello = link.receive()
        if isinstance(hello, Hello):
            _serve(link, hello, interrupt)


def _serve(link: Link, hello: Hello, interrupt: Interrupt) -> None:
    sys.argv[:] = map(os.fsdecode, hello.argv)
    if hello.log_level is not None:
        init_logging(hello.log_level)
    limits = Limits(hello.value_bytes, hello.context_bytes)
    bodies = Bodies(link, limits, hello.main, interrupt)
    while isinstance(order := link.receive(), Order):
        link.send(bodies.run(order))


def _die_with(parent: int) -> None:
    """Let the kernel kill this process when the runner's ends, even if a body holds up all its threads."""
    with suppress(Exception):  # only Linux has it; elsewhere the lifeline must do
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(0)
