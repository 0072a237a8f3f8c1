"""Runs each trial on several nodes: the other nodes' workers, as the first node's worker sees them.

The first node's worker is the driver of the others. They exchange messages through mailboxes, as a
driver and its workers do, and each worker has a warm parent of its own. The trial's processes then
connect to each other: see dlsweep.run.nodes.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dlsweep.errors import DeviceError
from dlsweep.folders.attempt import Attempt
from dlsweep.folders.rundir import RunDir
from dlsweep.launchers.base import Job, Judge
from dlsweep.launchers.local import SlotLauncher
from dlsweep.launchers.mailbox import ANSWER_POLL, Inbox, Outbox
from dlsweep.launchers.worker import Message, run_message

#: How long the workers of the other nodes may take to start, in seconds.
_PATIENCE = 100.0


class Companion:
    """The worker of another node.

    Args:
        folder: Its mailbox.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._outbox, self._inbox = Outbox(folder, "driver"), Inbox(folder, "worker")
        self.about: Mapping[str, Any] = {}

    def send(self, message: Message) -> None:
        """Sends it a message."""
        self._outbox.send(message)

    def hear(self) -> None:
        """Reads its messages, and gives it a sign of life.

        Raises:
            DeviceError: If it can run no trial.
        """
        self._outbox.beat()
        for message in self._inbox.receive():
            if message["kind"] == "broken":
                raise DeviceError(message["error"])
            if message["kind"] == "ready":
                self.about = message["about"]


class NodesLauncher(SlotLauncher):
    """Runs each trial on this node and, at the same time, on others.

    Args:
        folders: The mailboxes of the other nodes' workers.
        arguments: Those of :class:`SlotLauncher`.
    """

    def __init__(self, folders: Sequence[Path], *arguments: Any) -> None:
        super().__init__(*arguments)
        self._companions = [Companion(folder) for folder in folders]
        self._running: Job | None = None

    def start(self, judge: Judge, folder: Path) -> None:
        """Starts this node's warm parent, and waits for the other workers.

        Raises:
            DeviceError: If one cannot run trials, or does not start in time.
        """
        super().start(judge, folder)
        until = time.monotonic() + _PATIENCE
        while not all(companion.about for companion in self._companions):
            self._hear_companions()
            if time.monotonic() > until:
                raise DeviceError(
                    f"The workers of its job's other nodes are silent: {_PATIENCE:g} s."
                )
            time.sleep(ANSWER_POLL)
        self.others = [companion.about for companion in self._companions]

    def submit(self, argv: Sequence[str], folder: RunDir) -> Job:
        """Starts a run on all nodes; a check, which has no description, on this one only."""
        job = super().submit(argv, folder)
        if folder.info_file.exists():
            self._running = job
            self._send(run_message(argv, folder, Attempt.current(folder).number, self.code))
        return job

    def wait(self, seconds: float) -> None:
        """Waits as :meth:`SlotLauncher.wait` does; what ends here ends on the other nodes.

        Raises:
            DeviceError: If one of them can run no trial any more.
        """
        super().wait(seconds)
        self._hear_companions()
        if self._running and self._running.poll() is not None:
            self._running = None
            self._send({"kind": "kill"})

    def close(self) -> None:
        """Ends the trial everywhere, and all workers."""
        self._send({"kind": "end"})
        super().close()

    def _send(self, message: Message) -> None:
        for companion in self._companions:
            companion.send(message)

    def _hear_companions(self) -> None:
        for companion in self._companions:
            companion.hear()
