"""A lease on a shared folder, for hosts that do not see each other's file locks.

The owner increments a counter in a file. Another host that finds the file watches the counter: if
it does not change for a while of the watcher's own monotonic clock, the owner is dead. Clocks of
two hosts are never compared.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import socket
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dlsweep.errors import StudyError, StudyLockedError
from dlsweep.folders.lock import Lock
from dlsweep.folders.reading import read_json
from dlsweep.folders.rundir import write_atomically
from dlsweep.folders.studydir import StudyDir

#: Seconds between two heartbeats, and seconds without one after which an owner counts as dead.
_BEAT, PATIENCE = 2.0, 10.0
#: Seconds within which somebody who only asks whether the lock is free lets it go again.
_LOOK = 0.3


@contextlib.contextmanager
def locked(folder: StudyDir) -> Iterator[str]:
    """Locks a study for this driver; yields the driver's id, which no other driver ever has.

    Raises:
        StudyLockedError: If another driver has locked it.
    """
    lock, lease = Lock(folder.lock_file), Lease(folder.lease_file)
    holder = "" if lock.wait(_LOOK) else lock.holder()
    if not holder and not lease.take():
        holder = lease.holder()
    if holder:
        lock.release()
        path = shlex.quote(str(folder.path))
        raise StudyLockedError(
            f"The study in {folder.path} is locked by {holder}.\n"
            f"Watch it:            python -m dlsweep attach {path}\n"
            f"More trials in it:   python -m dlsweep extend {path} --n-trials <count>\n"
            f"Stop it:             python -m dlsweep stop {path}\n"
            "Or give this sweep another name:  hydra.sweeper.study_name=<name>"
        )
    try:
        yield lease.id
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
        self.id = uuid.uuid4().hex
        self._mine = {
            "id": self.id,
            "holder": f"process {os.getpid()} on {socket.gethostname()} since {since}",
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "since": time.time(),
            "kernel": kernel(),
        }
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._send_heartbeats, daemon=True)

    def take(self) -> bool:
        """Acquires the lease, unless an owner on another host is alive."""
        found = self._read()
        # On this host, the file lock has shown already that the owner is dead.
        if found and found.get("kernel") != self._mine["kernel"] and self._is_alive(found):
            return False
        self._beat()
        self._thread.start()
        return True

    def holder(self) -> str:
        """Returns the owner: process, host and start time."""
        return str((self._read() or {}).get("holder", "an unknown process"))

    def release(self) -> None:
        """Releases the lease."""
        self._over.set()
        self._thread.join()  # it could write the file again
        if self._is_mine():
            self._path.unlink(missing_ok=True)

    def _is_alive(self, found: dict[str, Any]) -> bool:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            time.sleep(_BEAT / 4)
            if self._read() != found:
                return True
        return False

    def _send_heartbeats(self) -> None:
        """Sends heartbeats. If another host has taken the lease, this driver ends at once.

        It must not even stop its trials: their folders, and the jobs of a cluster, belong to the
        other driver now. Trials on this machine end by themselves when their driver is gone.
        """
        while not self._over.wait(_BEAT):
            if not self._is_mine():
                said = f"Another driver has taken over, {self.holder()}: this one ends."
                print(said, file=sys.stderr, flush=True)
                os._exit(os.EX_TEMPFAIL)
            self._beat()

    def _is_mine(self) -> bool:
        return (self._read() or {}).get("id") == self.id

    def _beat(self) -> None:
        self._count += 1
        write_atomically(self._path, json.dumps({**self._mine, "count": self._count}))

    def _read(self) -> dict[str, Any] | None:
        return read_lease(self._path)


def read_lease(path: Path) -> dict[str, Any] | None:
    """Reads a lease; None without one, or if it is damaged."""
    try:
        return dict(read_json(path))
    except (FileNotFoundError, ValueError, TypeError, StudyError):
        return None


def kernel() -> str:
    """Returns an id of this running kernel, which differs after a reboot."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return socket.gethostname()
