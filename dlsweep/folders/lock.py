"""An exclusive file lock on a folder, among processes of one host."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import signal
import socket
import time
from pathlib import Path
from typing import TextIO


class Lock:
    """An exclusive file lock on a folder. The kernel releases it when its owner dies."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: TextIO | None = None

    def acquire(self) -> bool:
        """Acquires the lock if it is free, and writes the owner to the file."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file = os.fdopen(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644), "r+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return False
        file.truncate(0)
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        file.write(f"process {os.getpid()} on {socket.gethostname()} since {since}")
        file.flush()
        self._file = file
        return True

    def wait(self, seconds: float) -> bool:
        """Waits that many seconds for the lock; returns whether it was acquired."""
        deadline = time.monotonic() + seconds
        while not self.acquire():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.1)
        return True

    def holder(self) -> str:
        """Returns the owner: process, host and start time."""
        return self.path.read_text() or "an unknown process"

    @property
    def is_held_here(self) -> bool:
        """Whether the lock's owner is, or was, a process of this host."""
        return self._holder()[1] == socket.gethostname()

    def kill_holder(self) -> None:
        """Kills the lock's owner and its process group; it must be on this host."""
        pid, _ = self._holder()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)

    def _holder(self) -> tuple[int, str]:
        found = re.match(r"process (\d+) on (\S+) since", self.holder())
        return (int(found[1]), found[2]) if found else (0, "")

    def release(self) -> None:
        """Releases the lock."""
        if self._file:
            self._file.close()
            self._file = None
