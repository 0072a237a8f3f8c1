"""The interface of a launcher, and of the jobs it gives."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from dlsweep.folders.rundir import RunDir

#: Judges a run whose folder has new records: a reason to stop it, or None to let it go on.
Judge = Callable[[RunDir], str | None]


class Job(ABC):
    """One launched run."""

    folder: RunDir

    @abstractmethod
    def poll(self) -> int | None:
        """The exit code, negative for a signal, or None while it runs."""

    @abstractmethod
    def stop(self, reason: str) -> None:
        """Asks it to save and end."""

    @abstractmethod
    def kill(self) -> None:
        """Ends it at once, with every process it started."""


class Launcher(ABC):
    """Runs commands in slots.

    Attributes:
        is_beside: Whether runs go on beside the driver, which then can end those that take long.
    """

    is_beside = True

    @abstractmethod
    def start(self, judge: Judge) -> None:
        """Makes ready; ``judge`` is asked whenever a run has logged its objective.

        Raises:
            DeviceError: If the machine has not what the slots need.
        """

    @property
    @abstractmethod
    def free_slots(self) -> int:
        """How many jobs can be submitted now."""

    @abstractmethod
    def submit(self, argv: Sequence[str], folder: RunDir) -> Job:
        """Starts a run: what a shell would type after ``python``, and the folder it works in."""

    @abstractmethod
    def wait(self, seconds: float) -> None:
        """Waits until a job rang or ended, but not longer than this; answers those that rang."""

    @abstractmethod
    def close(self) -> None:
        """Ends everything that was started."""
