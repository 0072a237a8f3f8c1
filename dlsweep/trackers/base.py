"""The interface of a tracker. The mirror calls it; training never does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dlsweep.errors import TrackerError
from dlsweep.folders.rundir import Record, Result, RunDir
from dlsweep.folders.studydir import StudyDir

State = dict[str, Any]
#: The step, the name and the value of a metric.
Point = tuple[int, str, float]


class ViewLostError(TrackerError):
    """What a state names is gone from the tool; the mirror then tells the folder from its start."""


class Tracker:
    """A view of run folders in some tool. This base class does nothing: a null object.

    ``state`` is a dict of the tracker's own for one run (or study), which the mirror writes to
    that folder together with its position in the records. After a crash, calls come again with
    the state of before: a tracker must then end up with each record once.

    A tracker raises whatever went wrong. The mirror says it, calls :meth:`start` again later
    with the state of the last success, and goes on from there.

    Attributes:
        view: The shell command or the address that shows what is kept; ``{folder}`` in it stands
            for the folder of the study, or of a run that is no trial.
    """

    view: str = ""

    def check(self) -> None:
        """Raises TrackerError or MissingExtraError if it cannot work; cheap, imports nothing."""

    def preload(self) -> None:
        """Imports what it needs; the mirror does so while it waits for the first run."""

    def log_study(self, study: StudyDir, info: dict[str, Any], state: State) -> None:
        """Tells of a study: before its first trial, and again behind its trials when it changed.

        Args:
            study: The study's folder.
            info: What ``study.json`` says; ``finished`` and ``best`` are there once it is over
                and its trials have been told.
            state: The tracker's own for this study.
        """

    def start(self, run: RunDir, parent: State, state: State) -> None:
        """Opens the tracker's run, or opens it again.

        Args:
            run: The run's folder.
            parent: The state that :meth:`log_study` left; empty for a run that is no trial.
            state: The tracker's own for this run; empty at first.

        Raises:
            ViewLostError: If the state names something that is gone.
        """

    def log(self, run: RunDir, records: list[Record], state: State) -> None:
        """Adds records, in order."""

    def finish(self, run: RunDir, result: Result, state: State) -> None:
        """Closes the tracker's run with how it ended; an interrupted run is not closed."""

    def close(self) -> None:
        """Comes last in a process: what was told is to be where it can be copied from."""


class Readable(Tracker):
    """A tracker whose view can be read back, and so be compared with the run folder."""

    def read(self, run: RunDir, state: State) -> Iterator[Point]:
        """Yields every value that the view holds of a run's metrics, in any order.

        Values of metrics that the run has not logged may be among them.
        """
        raise NotImplementedError

    def missing(self, run: RunDir, result: Result, state: State) -> Iterator[str]:  # noqa: ARG002
        """Yields what the view of a run that has ended lacks beside metrics; each as a sentence."""
        yield from ()

    def missing_of_study(
        self,
        study: StudyDir,  # noqa: ARG002
        info: dict[str, Any],  # noqa: ARG002
        state: State,  # noqa: ARG002
    ) -> Iterator[str]:
        """Likewise of a study; the arguments are those of :meth:`log_study`."""
        yield from ()

    def remove(self, run: RunDir, state: State) -> None:
        """Removes the view of a run, which is then told from its start."""
        raise NotImplementedError
