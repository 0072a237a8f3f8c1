"""A sign of life in a shared folder, for hosts that do not see each other's locks.

The holder counts up in a file. Whoever finds the file watches it: if the count stands still for a
while of the watcher's own monotonic clock, the holder is dead. No two clocks are compared, so that
none may be wrong.
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

#: Seconds between two counts, and after how many without one a holder is dead.
_BEAT, _PATIENCE = 2.0, 10.0


@contextlib.contextmanager
def held(folder: StudyDir) -> Iterator[None]:
    """Holds a study for this driver alone.

    Raises:
        StudyLockedError: If another drives it.
    """
    lock, lease = Lock(folder.lock_file), Lease(folder.lease_file)
    holder = "" if lock.acquire() else lock.holder()
    if not holder and not lease.take():
        holder = lease.holder()
    if holder:
        lock.release()
        raise StudyLockedError(
            f"The study in {folder.path} is being driven by {holder}.\n"
            "Stop that process, or give this sweep a name of its own:  "
            "hydra.sweeper.study_name=<name>"
        )
    try:
        yield
    finally:
        lease.release()
        lock.release()


class Lease:
    """A hold on a folder that another kernel can see; beside a :class:`dlsweep.folders.lock.Lock`.

    Args:
        path: The file that tells of it.
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
        """Takes the hold, unless a holder under another kernel is alive."""
        found = self._read()
        # Under this kernel, the lock has told already that the holder is dead.
        if found and found.get("kernel") != self._mine["kernel"] and self._is_alive(found):
            return False
        self._beat()
        threading.Thread(target=self._keep_beating, daemon=True).start()
        return True

    def holder(self) -> str:
        """Who has the hold: process, host and since when."""
        return str((self._read() or {}).get("holder", "an unknown process"))

    def release(self) -> None:
        """Gives the hold back."""
        self._over.set()
        self._path.unlink(missing_ok=True)

    def _is_alive(self, found: dict[str, Any]) -> bool:
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline:
            time.sleep(_BEAT / 4)
            if self._read() != found:
                return True
        return False

    def _keep_beating(self) -> None:
        """Counts; a driver that was taken for dead, and was not, stops."""
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
    """What tells this running kernel from every other, and from itself before a reboot."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return socket.gethostname()
