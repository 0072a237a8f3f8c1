"""The mirror's process, which syncs trackers while the driver watches runs."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

from dlsweep.drive.progress import View
from dlsweep.errors import TrackerError

#: How long a tracker may stay silent once all runs have ended, in seconds.
_TRACKER_PATIENCE = 60.0


class Mirror:
    """The mirror's process: ``python -m dlsweep sync <folder> --follow``."""

    def __init__(self, folder: Path, view: View) -> None:
        self._folder = folder
        self._view = view
        self._failure = ""
        self._heard = 0.0
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts the process, if it is not running."""
        if self._process:
            return
        self._process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", "dlsweep", "sync", str(self._folder), "--follow"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            start_new_session=True,
        )
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def check(self) -> None:
        """Raises TrackerError if a tracker could not start."""
        if self._failure:
            raise TrackerError(self._failure)

    def wake(self) -> None:
        """Makes the mirror sync the folders now."""
        if self._process and self._process.stdin:
            with contextlib.suppress(BrokenPipeError):  # it has died; finish() handles that
                os.write(self._process.stdin.fileno(), b"\n")

    def close_input(self) -> None:
        """Closes the mirror's input: it syncs the rest and ends."""
        if self._process and self._process.stdin:
            self._process.stdin.close()

    def finish(self, wait: bool) -> None:
        """Waits until the mirror has synced the rest, or kills it."""
        if self._process is None:
            return
        self.close_input()
        if not wait:
            self._process.kill()
        started = self._heard = time.monotonic()
        while self._process.poll() is None:
            time.sleep(0.02)
            if time.monotonic() - started > 2:
                self._view.say("Syncing the trackers …")
                started = float("inf")
            if time.monotonic() - self._heard > _TRACKER_PATIENCE:
                self._view.say(
                    "A tracker does not answer. Sync it later:  "
                    f"python -m dlsweep sync {self._folder}",
                    "warning",
                )
                self._process.kill()
                self._process.wait()
        self._listener.join()

    def _listen(self) -> None:
        assert self._process
        assert self._process.stdout
        for line in self._process.stdout:
            message = json.loads(line)
            self._heard = time.monotonic()
            if "error" in message:
                self._failure = f"tracking.{message['tracker']}: {message['error']}"
            elif message.get("view"):
                self._view.dashboards[message["tracker"]] = message["view"]
