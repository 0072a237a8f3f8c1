"""The slots of a cluster as its driver sees them, and the runs there."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from dlsweep.folders.attempt import Attempt
from dlsweep.folders.rundir import RunDir
from dlsweep.launchers.base import Job
from dlsweep.launchers.streaming import Receiver
from dlsweep.launchers.worker import Message


class Seat(ABC):
    """A slot of the cluster, with the worker that runs its trials.

    Attributes:
        name: Its name, unique within the sweep.
        is_ready: Whether its worker can run trials.
        is_asked: Whether its worker, of an earlier driver, still has to say what it runs.
        is_outdated: Whether an earlier driver has started its worker with other settings.
        shares: Whether its node sees the driver's folders.
        job: The job that runs there.
        losses: How many workers were lost here since a trial has last run.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_ready = False
        self.is_asked = False
        self.is_outdated = False
        self.shares = True
        self.job: RemoteJob | None = None
        self.losses = 0

    @property
    def can_answer(self) -> bool:
        """Whether its worker has started and is not lost."""
        return True

    @abstractmethod
    def send(self, message: Message) -> None:
        """Sends a message to the worker."""

    @abstractmethod
    def receive(self) -> list[Message]:
        """Returns the worker's messages since the last call, without waiting."""

    @abstractmethod
    def loss(self) -> str:
        """Returns why the worker is lost, or an empty text while it is not."""

    @abstractmethod
    def end(self) -> None:
        """Ends the worker, and whatever the cluster keeps for it."""


class RemoteJob(Job):
    """A run on a node of the cluster."""

    def __init__(self, folder: RunDir, argv: Sequence[str]) -> None:
        self.folder = folder
        self.argv = list(argv)
        self.attempt = Attempt.current(folder).number
        self.receiver = Receiver(folder)
        self.code: int | None = None
        self.notice = 0
        self.must_die = False
        self.handed_on: str | None = None

    def poll(self) -> int | None:
        """Returns the exit code, negative for a signal, or None while it runs."""
        return self.code

    def stop(self, reason: str) -> None:
        """Asks the run to save and end."""
        self.folder.request_stop(reason)

    def kill(self) -> None:
        """Kills the run with every process it has started. A signal handler may call it."""
        self.must_die = True
