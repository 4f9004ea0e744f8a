"""The folder of payload files beside a database: one subfolder for each execution, files named by their SHA-256.

A file is written under another name, synced, renamed, and its folders are synced: only then its row may be
committed. So a crash leaves files without a row, never the reverse; see `PayloadFolder.older`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from cloacina.errors import PayloadError, StoreUnavailable
from cloacina.observe.logs import get_logger

log = get_logger("payloads")

_NAME = re.compile(r"[0-9A-Za-z_-]{1,100}")

# What passes by itself; anything else is the matter with this one file.
_TRANSIENT = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.EINTR}


@dataclass(frozen=True, slots=True)
class PayloadFolder:
    """The folder at ``path``, which is made when the first file comes."""

    path: Path

    def file(self, execution: str, name: str) -> Path:
        """Where the file ``name`` of an execution is. Raises `PayloadError` if that is not in this folder."""
        return self._home(execution) / name

    def put(self, execution: str, name: str, data: bytes) -> None:
        """Store a file; when this returns it survives a power cut. Raises ``OSError``."""
        home = self._home(execution)
        for folder in (self.path, home):
            with contextlib.suppress(FileExistsError):
                folder.mkdir(mode=0o700)
        temporary = home / f".{name}.{os.urandom(8).hex()}"
        try:
            _write(temporary, data)
            temporary.replace(home / name)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        for folder in (home, self.path, self.path.parent):
            _sync(folder)

    def get(self, execution: str, name: str, length: int) -> bytes | None:
        """The content of a file, no more than ``length`` bytes and one; None if it is not there.

        Raises `StoreUnavailable` if it may be read later, `PayloadError` if it cannot be.
        """
        path = self.file(execution, name)
        try:
            with open(path, "rb") as file:
                return file.read(min(length, os.fstat(file.fileno()).st_size) + 1)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            kind = StoreUnavailable if error.errno in _TRANSIENT else PayloadError
            raise kind(f"its file {path} cannot be read: {error.strerror}") from error

    def remove(self, executions: Iterable[str]) -> None:
        """Remove the files of executions. What cannot be removed is logged, and is a stray from then on."""
        for execution in executions:
            try:
                _remove(self._home(execution))
            except FileNotFoundError:
                continue
            except (OSError, PayloadError) as error:
                log.warning("payload files could not be removed: %s", error, extra={"execution": execution})

    def older(self, before: int) -> list[str]:
        """The executions with files here that were made before then, in microseconds since the epoch.

        Those of them that are not in the database are strays. Files of an execution come before its row, so
        ``before`` must leave time for that. An id begins with the time at which it was made (UUIDv7).
        """
        least = f"{max(before // 1000, 0):012x}"
        return [entry.name for entry in self._homes() if entry.name.replace("-", "")[:12] < least]

    def copy_to(self, other: PayloadFolder) -> set[str]:
        """Copy every file that ``other`` does not have, or not whole; return the executions of all.

        A backup does so before and again after it copies the database: what the copy names was there at one
        of the two times. Raises ``OSError``.
        """
        seen: set[str] = set()
        for home in self._homes():
            seen.add(home.name)
            for name in _files(home.path):
                with contextlib.suppress(FileNotFoundError):  # its execution was removed meanwhile
                    if not _is_whole(other.file(home.name, name)):
                        other.put(home.name, name, (Path(home.path) / name).read_bytes())
        return seen

    def keep_only(self, executions: Container[str]) -> None:
        """Remove the files of all other executions, and the folder if nothing is left in it."""
        self.remove([entry.name for entry in self._homes() if entry.name not in executions])
        with contextlib.suppress(OSError):
            self.path.rmdir()

    def _home(self, execution: str) -> Path:
        if not _NAME.fullmatch(execution):
            raise PayloadError(f"execution id {execution!r:.80} cannot name a folder")
        return self.path / execution

    def _homes(self) -> Iterator[os.DirEntry[str]]:
        with contextlib.suppress(FileNotFoundError), os.scandir(self.path) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False) and _NAME.fullmatch(entry.name):
                    yield entry


def _write(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with open(descriptor, "wb", buffering=0) as file:
        os.fchmod(descriptor, 0o600)
        rest = memoryview(data)
        while rest:
            rest = rest[file.write(rest) :]
        os.fsync(descriptor)


def _is_whole(file: Path) -> bool:
    """True if a file is there and holds what its name says."""
    try:
        return sha256(file.read_bytes()).hexdigest() == file.name
    except FileNotFoundError:
        return False


def _remove(home: Path) -> None:
    for file in home.iterdir():
        file.unlink()
    home.rmdir()


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _files(home: str) -> list[str]:
    """The finished files of one execution."""
    with contextlib.suppress(FileNotFoundError), os.scandir(home) as entries:
        return [entry.name for entry in entries if entry.is_file() and not entry.name.startswith(".")]
    return []
