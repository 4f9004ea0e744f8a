"""The file system that a path is on, as far as it matters: one that several machines may share."""

from __future__ import annotations

import re
from pathlib import Path

MOUNTS = Path("/proc/self/mountinfo")
"""Where Linux says what is mounted (proc(5)); other systems have no such file, and nothing is known there."""

SHARED = frozenset(
    """
    9p afs beegfs ceph cifs coda davfs fuse.afpfs fuse.ceph fuse.cephfs fuse.davfs2 fuse.gcsfuse fuse.glusterfs
    fuse.grpcfuse fuse.juicefs fuse.mount-s3 fuse.osxfs fuse.rclone fuse.s3fs fuse.smbnetfs fuse.sshfs glusterfs gfs2
    lustre ncpfs nfs nfs4 ocfs2 orangefs prl_fs smb3 smbfs vboxsf virtiofs vmhgfs
    """.split()  # noqa: SIM905
)
"""Types on which locks, or memory that is mapped by several processes, do not reach everybody."""

_ESCAPED = re.compile(r"\\([0-7]{3})")


def shared(path: Path) -> str | None:
    """The type of the file system that ``path`` is on if machines may share it, else None; None if not known."""
    kind = _kind(path)
    return kind if kind in SHARED else None


def _kind(path: Path) -> str | None:
    """The type of the innermost mount that ``path``, without links, lies in; of two at one place the later one."""
    try:
        lines = MOUNTS.read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return None
    found: tuple[int, str] | None = None
    for line in lines:
        fields = line.split(" ")
        if len(fields) < 7 or "-" not in fields[6:]:
            continue
        point = Path(_ESCAPED.sub(lambda code: chr(int(code[1], 8)), fields[4]))
        kind = fields[fields.index("-", 6) + 1]
        depth = len(point.parts)
        if path.is_relative_to(point) and (found is None or depth >= found[0]):
            found = depth, kind
    return found[1] if found else None
