"""System calls: a kill at the n-th of a kind, or the n-th that fails, made by strace."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from acceptance.support.child import Child
from acceptance.support.stage import Stage
from campaign.place import Place, Skipped
from campaign.sizes import Sizes

KILLED = {"sqlite": ("pwrite64", "fdatasync", "ftruncate", "unlink"), "postgres": ("sendto", "recvfrom")}
FAILED = {"sqlite": (("pwrite64", "ENOSPC"), ("pwrite64", "EIO"), ("fdatasync", "EIO")), "postgres": ()}
"""What a disk does; a socket of the loop itself never fails so, and the network's failures have their own tests."""
SHAPES = ("diamond", "fallback")
MOST = 400


def play(place: Place, sizes: Sizes) -> str:
    """Kill and fail at each so-manieth call of each kind; return what was done."""
    _check_strace(place.folder)
    told: list[str] = []
    for call in KILLED[place.database]:
        told.append(f"{_every(place, sizes.calls, call, 'signal=KILL')} kills at {call}")
    for call, error in FAILED[place.database]:
        told.append(f"{_every(place, sizes.calls, call, f'error={error}')} times {error} from {call}")
    return ", ".join(told)


def _every(place: Place, step: int, call: str, what: str) -> int:
    def once(number: int) -> bool:
        with place.stage(f"{call}-{what}-{number}") as stage:
            return _survives(place, stage, call, f"{call}:{what}:when={number * step}")
        return True

    return place.theatre.every(once, at_once=place.at_once, most=MOST)


def _survives(place: Place, stage: Stage, call: str, injection: str) -> bool:
    """True if the injection came about."""
    stage.close_gate()
    child = stage.start(stage.asks(*SHAPES), held=True)
    child.line("waiting")
    log = stage.folder / "strace"
    with _traced(child, log, call, injection):
        stage.open_gate()
        code = child.wait()
    came = "(INJECTED)" in log.read_text("utf-8", "replace") or code != 0
    started = any(line.startswith("up ") for line in child.lines())
    if "KILL" in injection:
        assert code in (0, -signal.SIGKILL), child.tail()
    else:
        assert code == 0 or not started, child.tail()  # it may say at the start that the disk does not work
    if came:
        place.so_far(stage)
        place.end(stage)
    return came


@contextmanager
def _traced(child: Child, log: Path, call: str, injection: str) -> Iterator[None]:
    command = ["strace", "-f", "-qq", "-p", str(child.pid), "-o", str(log), "-e", f"trace={call}"]
    with subprocess.Popen(
        [*command, "-e", f"inject={injection}"], stderr=subprocess.PIPE, stdin=subprocess.DEVNULL
    ) as strace:
        try:
            _wait_until_attached(child.pid)
            yield
        finally:
            strace.terminate()
            strace.wait()


def _wait_until_attached(pid: int) -> None:
    while "TracerPid:\t0\n" in (text := Path(f"/proc/{pid}/status").read_text()):
        assert text


def _check_strace(folder: Path) -> None:
    if shutil.which("strace") is None:
        raise Skipped("strace is not installed: apt-get install strace")
    command = [
        "strace",
        "-o",
        str(folder / "strace"),
        "-e",
        "trace=write",
        "-e",
        "inject=write:error=EIO:when=99",
        "true",
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise Skipped(f"strace may not trace here: {done.stderr.strip()}")
