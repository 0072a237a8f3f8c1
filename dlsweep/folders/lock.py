"""An exclusive hold on a folder, among processes whose kernel is the same."""

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
    """An exclusive hold on a folder, which the kernel releases when its holder dies."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: TextIO | None = None

    def acquire(self) -> bool:
        """Takes the hold if it is free; the file then says who has it and since when."""
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
        """Tries to take the hold for a while."""
        deadline = time.monotonic() + seconds
        while not self.acquire():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.1)
        return True

    def holder(self) -> str:
        """Who has the hold: process, host and since when."""
        return self.path.read_text() or "an unknown process"

    def kill_holder(self) -> bool:
        """Kills the process that has the hold, with all of its group, if it is on this host."""
        found = re.match(r"process (\d+) on (\S+) since", self.holder())
        if not found or found[2] != socket.gethostname():
            return False
        with contextlib.suppress(ProcessLookupError):
            os.killpg(int(found[1]), signal.SIGKILL)
        return True

    def release(self) -> None:
        """Gives the hold back."""
        if self._file:
            self._file.close()
            self._file = None
