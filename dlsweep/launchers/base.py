"""The interface of a launcher and its jobs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dlsweep.folders.attempt import ATTEMPT_VARIABLE, Attempt
from dlsweep.folders.rundir import RunDir
from dlsweep.launchers.packing import Packing
from dlsweep.run.channel import RUN_VARIABLE

#: Called for a run with new records: returns a reason to stop it, or None to continue.
Judge = Callable[[RunDir], str | None]


class Job(ABC):
    """A launched run."""

    folder: RunDir

    @abstractmethod
    def poll(self) -> int | None:
        """Returns the exit code, negative for a signal, or None while it runs."""

    @abstractmethod
    def stop(self, reason: str) -> None:
        """Asks the run to save and end."""

    @abstractmethod
    def kill(self) -> None:
        """Kills the run with every process it has started."""


class Launcher(ABC):
    """Runs commands in slots.

    Attributes:
        is_beside: Whether runs have their own processes, so that the driver can stop hung ones.
        code: The snapshot of the user's code that runs import from; None for the code as it is.
        most: The number of runs that the driver will ever run at a time, if it is known.
        packing: Which slots runs get here, so that some may share a GPU; None elsewhere.
    """

    is_beside = True
    code: Path | None = None
    most: int | None = None
    packing: Packing | None = None

    @abstractmethod
    def start(self, judge: Judge, folder: Path) -> None:
        """Starts the launcher.

        Args:
            judge: Called whenever a run has logged its objective.
            folder: The folder of the study, or of the single run.

        Raises:
            DeviceError: If the machine has fewer devices than the slots need.
        """

    @property
    @abstractmethod
    def free_slots(self) -> int:
        """The number of jobs that can be submitted now."""

    def memory(self) -> Sequence[Mapping[str, int]]:
        """Returns the bytes of memory that a run may use, for each node; empty until all tell.

        By kind: ``host`` and ``gpu``. A kind that a node does not tell is left out.
        """
        return ()

    @abstractmethod
    def submit(self, argv: Sequence[str], folder: RunDir) -> Job:
        """Starts a run: the arguments after ``python``, and its run folder."""

    def adopt(self, folder: RunDir) -> Job | None:
        """Returns the job of a run that an earlier driver has left running, if there is one."""
        del folder  # on this machine, a run ends with its driver
        return None

    @abstractmethod
    def wait(self, seconds: float) -> None:
        """Waits at most that many seconds for a notification or an end; answers notifications."""

    @abstractmethod
    def close(self) -> None:
        """Ends everything that the launcher has started."""


def environment_of(folder: RunDir) -> dict[str, str]:
    """Returns the environment variables that tell a process which attempt of which run it is."""
    number = Attempt.current(folder).number
    return {RUN_VARIABLE: str(folder.path), ATTEMPT_VARIABLE: str(number)}


def with_environment(options: Mapping[str, Any], env_set: Mapping[str, str]) -> dict[str, Any]:
    """Adds ``hydra.job.env_set`` to a launcher's options: on a cluster, no trial inherits it."""
    if env_set and "env" in options:
        return {**options, "env": {**env_set, **(options["env"] or {})}}
    return dict(options)
