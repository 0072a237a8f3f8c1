"""A lease on a shared folder, for hosts that do not see each other's file locks.

The owner increments a counter in a file. Another host that finds the file watches the counter: if
it does not change for a while of the watcher's own monotonic clock, the owner is dead. Clocks of
two hosts are never compared.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dlsweep.errors import StudyLockedError
from dlsweep.folders.lock import Lock
from dlsweep.folders.rundir import write_atomically
from dlsweep.folders.studydir import StudyDir

#: Seconds between two heartbeats, and seconds without one after which an owner counts as dead.
_BEAT, _PATIENCE = 2.0, 10.0


@contextlib.contextmanager
def locked(folder: StudyDir) -> Iterator[None]:
    """Locks a study for this driver.

    Raises:
        StudyLockedError: If another driver has locked it.
    """
    lock, lease = Lock(folder.lock_file), Lease(folder.lease_file)
    holder = "" if lock.acquire() else lock.holder()
    if not holder and not lease.take():
        holder = lease.holder()
    if holder:
        lock.release()
        raise StudyLockedError(
            f"The study in {folder.path} is locked by {holder}.\n"
            "Stop that process, or give this sweep another name:  "
            "hydra.sweeper.study_name=<name>"
        )
    try:
        yield
    finally:
        lease.release()
        lock.release()


class Lease:
    """A lock on a folder that other hosts can see; used with :class:`dlsweep.folders.lock.Lock`.

    Args:
        path: The lease file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        self._count = 0
        self._mine = {
            "holder": f"process {os.getpid()} on {socket.gethostname()} since {since}",
            "kernel": _kernel(),
        }
        self._over = threading.Event()

    def take(self) -> bool:
        """Acquires the lease, unless an owner on another host is alive."""
        found = self._read()
        # On this host, the file lock has shown already that the owner is dead.
        if found and found.get("kernel") != self._mine["kernel"] and self._is_alive(found):
            return False
        self._beat()
        threading.Thread(target=self._send_heartbeats, daemon=True).start()
        return True

    def holder(self) -> str:
        """Returns the owner: process, host and start time."""
        return str((self._read() or {}).get("holder", "an unknown process"))

    def release(self) -> None:
        """Releases the lease."""
        self._over.set()
        self._path.unlink(missing_ok=True)

    def _is_alive(self, found: dict[str, Any]) -> bool:
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline:
            time.sleep(_BEAT / 4)
            if self._read() != found:
                return True
        return False

    def _send_heartbeats(self) -> None:
        """Sends heartbeats. If another host has taken the lease, this driver stops."""
        while not self._over.wait(_BEAT):
            if self.holder() != self._mine["holder"]:
                os.kill(os.getpid(), signal.SIGTERM)
                return
            self._beat()

    def _beat(self) -> None:
        self._count += 1
        write_atomically(self._path, json.dumps({**self._mine, "count": self._count}))

    def _read(self) -> dict[str, Any] | None:
        try:
            return dict(json.loads(self._path.read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            return None


def _kernel() -> str:
    """Returns an id of this running kernel, which differs after a reboot."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return socket.gethostname()
