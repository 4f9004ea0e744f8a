"""The nursery: one process that has imported everything, and forks a child for each order.

So a program starts in some milliseconds, and a test can afford hundreds of them. Each child has a keeper,
which waits for it and writes down its pid and, at the end, how it ended. The nursery has no threads and
opens no database, so a fork of it is as good as a new process.
"""

from __future__ import annotations

import os
import signal
import socket
import sys

import asyncpg  # noqa: F401 - imported lazily by the engine, and here once for all programs
import msgspec

from acceptance.support.order import Order
from acceptance.support.program import run


def serve(link: socket.socket) -> Order | None:
    """Fork for each order that comes; return it in the child, and None in the nursery at the end."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        text, fds, _, _ = socket.recv_fds(link, 65536, 3)
        if not text:
            return None
        while not text.endswith(b"\n"):
            text += link.recv(65536)
        output, errors, status = fds
        if os.fork() == 0:
            link.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            child = os.fork()
            if child == 0:
                os.dup2(output, 1)
                os.dup2(errors, 2)
                for fd in fds:
                    os.close(fd)
                return msgspec.json.decode(text, type=Order)
            os.write(status, f"{child}\n".encode())
            _, code = os.waitpid(child, 0)
            os.write(status, f"{os.waitstatus_to_exitcode(code)}\n".encode())
            os._exit(0)
        for fd in fds:
            os.close(fd)
        link.send(b".")


if __name__ == "__main__":
    order = serve(socket.socket(fileno=int(sys.argv[1])))
    if order is not None:
        run(order)
