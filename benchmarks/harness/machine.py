"""The machine: what a figure depends on, measured and read at the time of the run."""

from __future__ import annotations

import os
import platform
import statistics
import time
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.harness.folders import file_system, fresh
from benchmarks.harness.server import describe as describe_server


def describe(parent: Path, server: str) -> dict[str, str]:
    """Facts by name, in the order in which they are to be shown; ``parent`` is where databases are made.

    ``server`` is the URL of a PostgreSQL, or empty.
    """
    import apsw

    facts = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "CPU": f"{_cpu_model()}, {len(os.sched_getaffinity(0))} cores",
        "disk": file_system(parent),
        "system": f"{platform.system()} {platform.release().partition('-')[0]}",
        "Python": f"{platform.python_implementation()} {platform.python_version()}, asyncio's own loop",
        "SQLite": f"{apsw.sqlite_lib_version()} (apsw {version('apsw')}), WAL, synchronous=FULL",
    }
    if server:
        facts["PostgreSQL"] = f"{describe_server(server)} (asyncpg {version('asyncpg')})"
    facts["cloacina"] = _version("cloacina") or "from the source tree"
    found = {name: _version(name.lower()) for name in ("DBOS", "Procrastinate")}
    return {**facts, **{name: value for name, value in found.items() if value}}


def weather(parent: Path) -> str:
    """How busy the machine is at the moment: a figure under load says little."""
    return f"load average {os.getloadavg()[0]:.2f}, write and fdatasync of 4 KiB {fdatasync_ms(parent):.3f} ms (median)"


def fdatasync_ms(parent: Path, times: int = 300) -> float:
    """The median of appending 4 KiB to a file and making it durable, in milliseconds."""
    durations: list[float] = []
    with fresh(parent) as folder:
        descriptor = os.open(Path(folder) / "probe", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            for _ in range(times):
                begin = time.perf_counter()
                os.write(descriptor, bytes(4096))
                os.fdatasync(descriptor)
                durations.append(1e3 * (time.perf_counter() - begin))
        finally:
            os.close(descriptor)
    return statistics.median(durations)


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
