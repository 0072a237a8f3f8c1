"""The interface of a tracker. The mirror calls it; training code never does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dlsweep.errors import TrackerError
from dlsweep.folders.rundir import Record, Result, RunDir
from dlsweep.folders.studydir import StudyDir
from dlsweep.trackers.exports import ExportedVersion

State = dict[str, Any]
#: The step, the name and the value of a metric.
Point = tuple[int, str, float]


class ViewLostError(TrackerError):
    """A run that the state refers to is gone; the mirror then syncs the folder from its start."""


class Tracker:
    """A view of run folders in some tool. This base class is a null object: it does nothing.

    ``state`` is a dict that the tracker may fill, for one run or study. The mirror writes it to
    that folder together with its position in the records. After a crash, the mirror repeats calls
    with the last written state. A tracker must then still contain each record once.

    A tracker raises an exception if something fails. The mirror prints it, calls :meth:`start`
    again later with the state of the last success, and continues from there.

    Attributes:
        view: The shell command or the URL that opens the tracker; ``{folder}`` in it stands for the
            folder of the study or of the single run.
    """

    view: str = ""

    def check(self) -> None:
        """Raises TrackerError or MissingExtraError if it cannot work. Cheap: imports nothing."""

    def preload(self) -> None:
        """Imports the tracker's packages, while the mirror waits for the first run."""

    def log_study(self, study: StudyDir, info: dict[str, Any], state: State) -> None:
        """Logs a study: before its first trial, and again after its trials if it has changed.

        Args:
            study: The study folder.
            info: The content of ``study.json``; it has ``finished`` and ``best`` once the study
                has ended and its trials are synced.
            state: The tracker's state for this study.
        """

    def start(self, run: RunDir, parent: State, state: State) -> None:
        """Creates the tracker's run, or opens it again.

        Args:
            run: The run folder.
            parent: The state of :meth:`log_study`; empty for a single run.
            state: The tracker's state for this run; empty at first.

        Raises:
            ViewLostError: If the state refers to something that is gone.
        """

    def log(self, run: RunDir, records: list[Record], state: State) -> None:
        """Logs records, in order."""

    def finish(self, run: RunDir, result: Result, state: State) -> None:
        """Ends the tracker's run with its result. An interrupted run stays open."""

    def close(self) -> None:
        """Flushes everything to files; the last call in a process."""


class Readable(Tracker):
    """A tracker that can be read back, so that ``verify`` can compare it with run folders."""

    def read(self, run: RunDir, state: State) -> Iterator[Point]:
        """Yields every value of a run's metrics in the tracker, in any order.

        It may also yield metrics that the run has not logged.
        """
        raise NotImplementedError

    def missing(self, run: RunDir, result: Result, state: State) -> Iterator[str]:  # noqa: ARG002
        """Yields a sentence for each thing that an ended run's view lacks, besides metrics."""
        yield from ()

    def missing_of_study(
        self,
        study: StudyDir,  # noqa: ARG002
        info: dict[str, Any],  # noqa: ARG002
        state: State,  # noqa: ARG002
    ) -> Iterator[str]:
        """Yields the same for a study; the arguments are those of :meth:`log_study`."""
        yield from ()

    def remove(self, run: RunDir, state: State) -> None:
        """Removes the tracker's run; the mirror then syncs it from its start."""
        raise NotImplementedError


class Registry(Tracker):
    """A tracker with a registry of models."""

    def register(
        self, run: RunDir, export: ExportedVersion, name: str, alias: str | None, state: State
    ) -> str:
        """Makes an exported model a version of a registered model, once.

        Args:
            run: The run folder of the exported model.
            export: The exported model.
            name: The name of the registered model; it is created if needed.
            alias: The alias that names this version from now on, if any.
            state: The tracker's state for this run.

        Returns:
            How the tracker names the version.
        """
        raise NotImplementedError
