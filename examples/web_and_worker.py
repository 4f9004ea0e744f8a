"""A web process that only submits and a background worker that only works: two processes on one file.

    python web_and_worker.py

The program starts itself twice more. `worker` has the code of the workflow and runs it. `web` serves HTTP with
the standard library; it does not have that code, only the workflow's name, and no body ever slows its requests.
Nothing lies between the two but the database file. A client asks for four reports, one of them nonsense.
"""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypedDict
from urllib.request import Request, urlopen

from cloacina import BlockingClient, Context, ExecutionStatus, ResultTimeout, Runner, Workflow
from cloacina.errors import ExecutionNotFound

DATABASE = "sqlite:///web_and_worker.db"


# What the worker has.


class Order(TypedDict):
    """What a report is ordered with."""

    city: str
    temperatures: list[float]


report = Workflow("report", description="The weather of a city", inputs=Order)


@report.task
def summarise(ctx: Context) -> None:
    """Work with numbers: on a thread."""
    found = ctx.input(Order)["temperatures"]
    ctx["mean"] = sum(found) / len(found)


@report.task(dependencies=[summarise])
async def write(ctx: Context) -> None:
    """Work that waits: on the event loop."""
    ctx["text"] = f"{ctx['city']}: {ctx['mean']:.1f} degrees on average"


async def worker() -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with Runner(DATABASE, workflows=[report]):
        print("the worker is ready", flush=True)
        await stop.wait()  # leaving the block lets bodies that run finish


# What the web process has.


class Handler(BaseHTTPRequestHandler):
    """POST /reports orders one; GET /reports/<id> says how it stands, after ten seconds at the latest."""

    client: BlockingClient

    def do_POST(self) -> None:
        order = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        # The key makes a request that was sent twice harmless.
        handle = self.client.submit("report", order, key=self.headers["Idempotency-Key"], tags=["web"])
        self.answer(202, {"id": handle.id})

    def do_GET(self) -> None:
        id = self.path.rpartition("/")[2]
        try:
            result = self.client.result(id, timeout=10)
        except ExecutionNotFound:
            self.answer(404, {"error": "no such report"})
        except ResultTimeout:
            self.answer(202, {"id": id, "status": self.client.status(id)})
        else:
            ended = {"status": result.status, "text": result.context.get("text"), "error": result.error}
            self.answer(200, {"id": id, **ended})

    def answer(self, code: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Requests are not logged here."""


def web() -> None:
    with BlockingClient(DATABASE) as client, ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Handler.client = client
        print(server.server_port, flush=True)
        server.serve_forever()


# What a user does.


def ask(address: str, order: Any = None, key: str = "") -> dict[str, Any]:
    data = None if order is None else json.dumps(order).encode()
    with urlopen(Request(address, data, {"Idempotency-Key": key}), timeout=30) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


def use(address: str) -> None:
    weather = {"Oslo": [-3, -1, 4], "Rome": [11, 17, 14], "Cairo": [20, 28, 27]}
    orders = [{"city": city, "temperatures": found} for city, found in weather.items()]
    ids = [ask(address, order, key=f"report-{n}")["id"] for n, order in enumerate(orders)]
    assert ask(address, orders[0], key="report-0")["id"] == ids[0], "sent twice, stored once"
    ids.append(ask(address, {"city": "Atlantis"}, key="report-nonsense")["id"])
    for id in ids:
        answer = ask(f"{address}/{id}")
        print(f"  {answer['status']}: {answer['text'] or answer['error']}")
    assert answer["status"] == ExecutionStatus.FAILED, "the worker checks what the web process could not"


def start(role: str) -> tuple[subprocess.Popen[str], str]:
    """A process of ours, once it has said that it is ready."""
    process = subprocess.Popen([sys.executable, __file__, role], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def main() -> None:
    for name in ("", "-wal", "-shm"):
        Path(f"web_and_worker.db{name}").unlink(missing_ok=True)
    # The worker first: it registers the workflow, so that it is known by name from then on.
    background, ready = start("worker")
    front, port = start("web")
    print(f"{ready}; the web process listens on port {port}")
    try:
        use(f"http://127.0.0.1:{port}/reports")
    finally:
        for process in (front, background):
            process.terminate()
            process.communicate()
    assert background.returncode == 0, "the worker ended in order"


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["worker"]:
            asyncio.run(worker())
        case ["web"]:
            web()
        case _:
            main()
