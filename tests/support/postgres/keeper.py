"""Keepers: folders that vanish, with the servers in them, when the process that made them ends, however it ends.

A keeper is a shell that waits for the end of its input, a pipe of which the maker holds the only other end. The end
comes when the maker closes it or is killed, even by SIGKILL. It is in a session of its own, so that Ctrl-C passes by.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import tempfile
from pathlib import Path

from support.postgres.programs import SECONDS, private_folder, whoever


class Keeper:
    """A temporary folder, and the commands that end what runs in it."""

    def __init__(self, name: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix=f"cloacina-{name}-"))
        private_folder(self.folder)
        self.last = self.folder / "last.sh"
        """What the shell runs at the end, as whoever owns the folder; see `finally_run`."""
        self._program: subprocess.Popen[bytes] | None = None
        self._shell = subprocess.Popen(
            ["sh", "-c", 'read -r _; sh "$0/last.sh"; cd /; rm -rf "$0"', str(self.folder)],
            cwd=self.folder, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True, **whoever(),
        )  # fmt: skip

    def finally_run(self, *command: str | Path) -> None:
        """Run ``command`` before the folder goes."""
        with self.last.open("a") as script:
            script.write(shlex.join(map(str, command)) + "\n")

    def run(self, *command: str | Path) -> None:
        """Begin ``command``, a program that stays in the foreground; it is killed before the folder goes.

        Its number is written down before it begins: in a folder that is gone, it does not. It gets SIGKILL, since a
        shell that runs tests in the background has all that they start ignore the milder SIGQUIT.
        """
        number = self.folder / "number"
        self.finally_run("sh", "-c", f"kill -KILL $(cat {shlex.quote(str(number))})")
        self._program = subprocess.Popen(
            ["sh", "-c", 'echo $$ > "$0" && exec "$@"', str(number), *map(str, command)],
            cwd=self.folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True, **whoever(),
        )  # fmt: skip

    def close(self) -> None:
        """Let the folder and all that runs in it end now; return when it has."""
        if self._shell.stdin is not None and not self._shell.stdin.closed:
            self._shell.stdin.close()
            self._shell.wait(SECONDS)
            if self._program is not None:
                self._program.wait(SECONDS)
            assert not os.path.lexists(self.folder), f"{self.folder} is still there"
