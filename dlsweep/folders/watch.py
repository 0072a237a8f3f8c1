"""Tells from outside whether a study's driver is alive, also if it runs on another host."""

from __future__ import annotations

import fcntl
import os
import stat
import time
from dataclasses import dataclass
from pathlib import Path

from dlsweep.folders.lease import PATIENCE, kernel, read_lease
from dlsweep.folders.studydir import StudyDir

#: Seconds between two looks at the lease of another host.
_LOOK = 0.25


@dataclass(frozen=True)
class Owner:
    """The driver that a lease names, as the lease says it.

    Attributes:
        id: Its id; empty in the lease of an older version, which takes no requests.
        holder: Process, host and start, in words.
        pid: Its process.
        host: Its host.
        since: Its start, wall time in seconds.
        heard: Its last heartbeat, wall time in seconds.
    """

    id: str
    holder: str
    pid: int | None
    host: str
    since: float
    heard: float


class Watch:
    """Watches the driver of a study.

    On the driver's own host, the file lock tells at once whether it is alive. On another one, only
    its heartbeats do, so that the first look may take seconds. Clocks are not compared.

    Args:
        folder: The study folder.
    """

    def __init__(self, folder: StudyDir) -> None:
        self.folder = folder
        self.owner: Owner | None = None
        self._found: object = None
        self._changed: float | None = None
        self._began = time.monotonic()

    def is_alive(self) -> bool | None:
        """Whether a driver is alive; None while that is not known yet."""
        found = read_lease(self.folder.lease_file)
        changed, self._found = found != self._found and self._found is not None, found
        self.owner = self._read(found) if found else None
        if is_locked(self.folder.lock_file):
            return True
        if found is None or found.get("kernel") == kernel():
            return False
        if changed:
            self._changed = time.monotonic()
        if self._changed is not None:
            return time.monotonic() - self._changed < PATIENCE
        return None if time.monotonic() - self._began < PATIENCE else False

    def wait(self) -> bool:
        """Waits until it is known whether a driver is alive, at most ten seconds."""
        while (alive := self.is_alive()) is None:
            time.sleep(_LOOK)
        return alive

    @property
    def since(self) -> float:
        """When the driver took the study, by the clock of the file system; 0 if that is unknown."""
        try:
            return self.folder.lock_file.stat().st_mtime
        except FileNotFoundError:
            return 0.0

    def _read(self, found: dict[str, object]) -> Owner:
        pid, since = found.get("pid"), found.get("since")
        try:
            heard = self.folder.lease_file.stat().st_mtime
        except FileNotFoundError:
            heard = 0.0
        return Owner(
            str(found.get("id", "")),
            str(found.get("holder", "an unknown process")),
            pid if isinstance(pid, int) else None,
            str(found.get("host", "")),
            float(since) if isinstance(since, int | float) else self.since,
            heard,
        )


def is_locked(path: Path) -> bool:
    """Whether a process that shares file locks with this one holds a lock; it is not touched."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return False
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
