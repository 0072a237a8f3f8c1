"""What a job of the Slurm launcher runs, on each of its nodes."""

from __future__ import annotations

import math
import os
import signal
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import submitit

from dlsweep.launchers.companions import NodesLauncher
from dlsweep.launchers.local import SlotLauncher
from dlsweep.launchers.mailbox import MailPost
from dlsweep.launchers.worker import Setup, Worker
from dlsweep.run.nodes import NODE_VARIABLE

#: The file in a mailbox that ends its job for good, also if Slurm or submitit requeues it.
OVER = "over"


class SlotJob:
    """What a slot's job runs. submitit pickles it, so it has plain values only.

    Args:
        setup: What the worker is started with.
        folder: The worker's mailbox.
        nodes: The number of nodes, each of which runs this.
    """

    def __init__(self, setup: Mapping[str, Any], folder: str, nodes: int) -> None:
        self.setup, self.folder, self.nodes = dict(setup), folder, nodes

    def __call__(self) -> None:
        """Runs trials until the driver ends the worker, or the job has to leave."""
        if self._is_over:
            return
        if node := submitit.JobEnvironment().node:
            self._help(node)
            return
        launcher = SlotLauncher if self.nodes == 1 else self._nodes_launcher
        worker = Worker(Setup(**self.setup), MailPost(Path(self.folder)), launcher)
        self._thread = threading.Thread(target=worker.serve)
        self._worker = worker  # last: a warning may come at any moment
        signal.signal(signal.SIGTERM, lambda *_: self._worker.preempt())
        self._thread.start()
        self._wait()

    def checkpoint(self) -> Any:
        """Has the trial save and end, before submitit requeues the job; called by its handler."""
        if hasattr(self, "_worker"):
            self._worker.preempt()
            self._wait()
        if self._is_over:
            return None
        return submitit.helpers.DelayedSubmission(SlotJob(self.setup, self.folder, self.nodes))

    @property
    def _is_over(self) -> bool:
        folder = Path(self.folder)
        return (folder / OVER).exists() or not folder.exists()

    def _nodes_launcher(self, *arguments: Any) -> NodesLauncher:
        return NodesLauncher([self._mailbox(n) for n in range(1, self.nodes)], *arguments)

    def _help(self, node: int) -> None:
        """Runs the first node's trials here too, until it ends this worker."""
        for number in (signal.SIGTERM, signal.SIGUSR2):  # the first node decides
            signal.signal(number, signal.SIG_IGN)
        mailbox = self._mailbox(node)
        mailbox.mkdir(parents=True, exist_ok=True)
        env = {**self.setup["env"], NODE_VARIABLE: str(node)}
        setup = Setup(**{**self.setup, "env": env, "patience": math.inf})  # Slurm ends it
        worker = Worker(setup, MailPost(mailbox))
        thread = threading.Thread(target=worker.serve, daemon=True)
        thread.start()
        while thread.is_alive() and not self._is_over:
            thread.join(0.1)

    def _mailbox(self, node: int) -> Path:
        """Returns the mailbox of another node's worker, a new one each time that the job starts."""
        restarts = os.environ.get("SLURM_RESTART_COUNT", "0")
        return Path(self.folder) / "nodes" / restarts / str(node)

    def _wait(self) -> None:
        while self._thread.is_alive():  # signals are handled in between
            self._thread.join(0.1)
