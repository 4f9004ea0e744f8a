"""Proxies: the network between clients and a server, which a test cuts, blackholes and heals.

``proxy.url(...)`` is the server's address through the proxy. What a fault does to a connection:

* `cut`, and every armed cut: both ends get a reset (RST). What was under way is lost in both directions.
* `blackhole`: nothing passes and nobody is told. New connections are accepted and get no answer. `heal` lets what was
  held back pass, as TCP does after an outage; `cut` before `heal` drops it. A client that hangs up meanwhile leaves
  its session on the server, as behind a firewall that dropped the packets.
* `refuse`: new connections are refused, open ones go on.

**Markers** say which statement a cut waits for: bytes in the text of the statement that is *run*, or in its
parameters as they travel. A driver sends a prepared statement's text once; the proxy remembers it, so a marker in the
text works each time the statement runs. ``b"COMMIT"`` finds the end of an asyncpg transaction, an execution's id finds
the group that has it (text, json: plain bytes; uuid: 16 bytes; numbers: big-endian). The preparation itself is never
cut. Pipelines of several statements are not understood.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Literal, Protocol, TypeVar

from support.postgres.server import free_port
from support.postgres.wire import Answers, Requests

T = TypeVar("T")
Direction = Literal["to_server", "to_client"]
_RESET = struct.pack("ii", 1, 0)


class Upstream(Protocol):
    """What a proxy stands before: a `PostgresServer` or a `PgBouncer`."""

    port: int

    def url(self, database: str = ..., *, user: str = ..., password: str = ..., port: int = ...) -> str: ...


class Fault:
    """A cut that waits for its moment. ``fired`` counts how often it came."""

    def __init__(self, times: int) -> None:
        self.fired = 0
        self._times = times
        self._done = threading.Event()

    @property
    def armed(self) -> bool:
        """True while it has not come as often as it was asked for."""
        return self.fired < self._times

    def wait(self, seconds: float = 20) -> None:
        """Wait until it has come as often as it was asked for."""
        assert self._done.wait(seconds), "the cut did not come about"

    def _fire(self) -> None:
        self.fired += 1
        if not self.armed:
            self._done.set()


class _MarkerCut(Fault):
    def __init__(self, marker: bytes, times: int, *, forward: bool) -> None:
        super().__init__(times)
        self.marker, self.forward = marker, forward


class _ByteCut(Fault):
    def __init__(self, left: int, direction: Direction) -> None:
        super().__init__(1)
        self.left, self.direction = left, direction


class TcpProxy:
    """A proxy before ``upstream``, on a port of 127.0.0.1 and a thread of its own, until `close`."""

    def __init__(self, upstream: Upstream) -> None:
        self.upstream = upstream
        self.port = free_port()
        self.accepted = 0
        """Connections that clients made."""
        self.bytes = {"to_server": 0, "to_client": 0}
        """What passed."""
        self._black = False
        self._faults: list[Fault] = []
        self._links: set[_Link] = set()
        self._listener: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self._do(self._listen())

    def url(self, database: str = "postgres", *, user: str = "", password: str = "") -> str:
        """The upstream's address through this proxy."""
        return self.upstream.url(database, user=user, password=password, port=self.port)

    @property
    def open(self) -> int:
        """Connections that are open."""
        return len(self._links)

    # Faults.

    def cut(self) -> int:
        """Reset all connections; return how many there were."""
        return self._do(self._cut())

    def blackhole(self) -> None:
        """Let nothing pass and tell nobody, until `heal`."""
        self._do(self._darken())

    def refuse(self) -> None:
        """Refuse new connections, until `heal`."""
        self._do(self._unlisten())

    def heal(self) -> None:
        """End all faults; what a blackhole held back passes now, on connections that were not cut."""
        self._do(self._heal())

    def cut_before(self, marker: bytes, times: int = 1) -> Fault:
        """Cut the connection that is about to run ``marker``, which does not reach the server: it has no effect."""
        return self._arm(_MarkerCut(marker, times, forward=False))

    def cut_reply_to(self, marker: bytes, times: int = 1) -> Fault:
        """Let ``marker`` run, and cut the connection in place of the answer: it had its effect, nobody knows."""
        return self._arm(_MarkerCut(marker, times, forward=True))

    def cut_after(self, n_bytes: int, direction: Direction) -> Fault:
        """Cut the connection on which the ``n_bytes``-th byte from now passes; the byte still passes."""
        return self._arm(_ByteCut(n_bytes, direction))

    def close(self) -> None:
        """Reset all connections and free the port."""
        if self._loop.is_closed():
            return
        self._do(self._unlisten())
        self._do(self._cut())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    # What runs on the proxy's loop.

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(20)

    def _arm(self, fault: Fault) -> Fault:
        async def arm() -> None:
            self._faults.append(fault)

        self._do(arm())
        return fault

    async def _listen(self) -> None:
        if self._listener is None:
            self._listener = await self._loop.create_server(self._accept, "127.0.0.1", self.port)

    async def _unlisten(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def _accept(self) -> _Side:
        return _Link(self).client

    async def _cut(self) -> int:
        links = set(self._links)
        for link in links:
            link.cut()
        while links & self._links:
            await asyncio.sleep(0)
        return len(links)

    async def _darken(self) -> None:
        self._black = True

    async def _heal(self) -> None:
        self._black = False
        self._faults.clear()
        for link in list(self._links):
            link.catch_up()
        await self._listen()

    def _cut_for(self, executes: bytes) -> _MarkerCut | None:
        cuts = (fault for fault in self._faults if isinstance(fault, _MarkerCut) and fault.armed)
        return next((cut for cut in cuts if cut.marker in executes), None)

    def _count(self, direction: Direction, data: bytes) -> tuple[bytes, _ByteCut | None]:
        """What of ``data`` may pass, and the cut that comes after it."""
        for cut in self._faults:
            if isinstance(cut, _ByteCut) and cut.armed and cut.direction == direction:
                data = data[: cut.left]
                cut.left -= len(data)
                self.bytes[direction] += len(data)
                return data, cut if cut.left == 0 else None
        self.bytes[direction] += len(data)
        return data, None


class _Link:
    """One client's connection and its twin to the server."""

    def __init__(self, proxy: TcpProxy) -> None:
        self._proxy = proxy
        self._requests, self._answers = Requests(), Answers()
        self._readies = 0
        self._reply_cut: _MarkerCut | None = None
        self._late: list[Callable[[], None]] = []
        """What happens when the blackhole ends, or the server is reached."""
        self.client = _Side(self._accepted, self._ask, self._client_left)
        self.server = _Side(self._connected, self._answer, self._server_left)

    def cut(self) -> None:
        self._late.clear()
        self.client.reset()
        self.server.reset()
        if self.client.gone:
            self._proxy._links.discard(self)

    def catch_up(self) -> None:
        late, self._late = self._late, []
        for call in late:
            call()

    def _accepted(self) -> None:
        self._proxy.accepted += 1
        self._proxy._links.add(self)
        self._connect()

    def _connect(self) -> None:
        if not self._held(self._connect):
            self._task = self._proxy._loop.create_task(self._reach())

    async def _reach(self) -> None:
        loop, port = self._proxy._loop, self._proxy.upstream.port
        try:
            await loop.create_connection(lambda: self.server, "127.0.0.1", port)
        except OSError:
            self.client.reset()

    def _connected(self) -> None:
        if self.client.gone:
            self.server.reset()
        self.catch_up()

    def _ask(self, data: bytes) -> None:
        if self._held(partial(self._ask, data), until_connected=True):
            return
        for message in self._requests.feed(data):
            cut = self._proxy._cut_for(message.executes) if message.executes else None
            if cut is not None and not cut.forward:
                self._end(cut)
                return
            if cut is not None and self._reply_cut is None:
                self._reply_cut, self._awaited = cut, self._readies + 1
            self._readies += message.readies
            self._answers.bytes_expected += message.byte
            if not self._pass("to_server", self.server, message.raw):
                return

    def _answer(self, data: bytes) -> None:
        if self._held(partial(self._answer, data)):
            return
        self._answers.feed(data)
        if self._reply_cut is None:
            self._pass("to_client", self.client, data)
        elif self._answers.readies >= self._awaited:
            self._end(self._reply_cut)

    def _pass(self, direction: Direction, side: _Side, data: bytes) -> bool:
        part, cut = self._proxy._count(direction, data)
        side.write(part)
        if cut is not None:
            self._end(cut)
        return cut is None

    def _end(self, cut: Fault) -> None:
        self.cut()
        cut._fire()

    def _client_left(self) -> None:
        if not self._held(self._client_left):
            self.server.finish()
            self._proxy._links.discard(self)

    def _server_left(self) -> None:
        if not self._held(self._server_left):
            self.client.finish()

    def _held(self, call: Callable[[], None], *, until_connected: bool = False) -> bool:
        waits = self._proxy._black or (until_connected and self.server.transport is None)
        if waits and not self.client.cut:
            self._late.append(call)
            return True
        return False


class _Side(asyncio.Protocol):
    """One of the two connections of a link."""

    def __init__(
        self, made: Callable[[], None], received: Callable[[bytes], None], lost: Callable[[], None]
    ) -> None:
        self._made, self._received, self._lost = made, received, lost
        self.transport: asyncio.Transport | None = None
        self.gone = self.cut = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._made()

    def data_received(self, data: bytes) -> None:
        self._received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone = True
        self._lost()

    def write(self, data: bytes) -> None:
        if self.transport is not None and not self.gone:
            self.transport.write(data)

    def finish(self) -> None:
        """Send what was written, then the end."""
        if self.transport is not None:
            self.transport.close()

    def reset(self) -> None:
        """End it at once, with a reset to the peer."""
        self.cut = True
        if self.transport is not None and not self.gone:
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self.transport.abort()
