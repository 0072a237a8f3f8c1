"""Trials that pause and go on later, from their own checkpoint and under their own number.

A paused trial is a running one in Optuna's storage, with the user attribute ``status: paused``. So
the study on disk tells after any kill which trials wait.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import optuna

from dlsweep.folders.lineage import Inheritance
from dlsweep.folders.rundir import RunDir
from dlsweep.sweep.space import Scalar

STATUS = "status"
POINT = "point"


@dataclass
class Trial:
    """A trial to run or to resume.

    Attributes:
        number: Its number.
        params: Its parameters; population based training changes them.
        overrides: The overrides that set them.
        optuna: Optuna's trial.
        curve: The reported values by step.
        lineage: Whose weights it has gone on from, first to last; empty without such training.
    """

    number: int
    params: dict[str, Scalar]
    overrides: list[str]
    optuna: optuna.Trial
    curve: dict[int, float] = field(default_factory=dict)
    lineage: list[Inheritance] = field(default_factory=list)


def store_point(trial: Trial) -> None:
    """Stores the parameters and overrides of a trial in the study."""
    point = {"params": trial.params, "overrides": trial.overrides}
    trial.optuna.set_user_attr(POINT, point)


class Pauses:
    """The paused trials of a study. This base class is for pruners that pause none.

    Args:
        study: The study.

    Attributes:
        may_start_over: Whether a training without checkpoints may start over after each pause.
        way_out: What else to do if it saves none, for the error.
        others_wait: Whether trials wait for a slot now.
    """

    may_start_over = False
    way_out = ""

    def __init__(self, study: optuna.Study) -> None:
        self.others_wait = False
        self._study = study
        self._waiting: dict[int, Trial] = {}

    @property
    def paused(self) -> list[Trial]:
        """The trials that wait."""
        return list(self._waiting.values())

    def take_paused(self, trials: Sequence[Trial]) -> list[Trial]:
        """Takes the paused ones of the unfinished trials; returns the others."""
        paused = self._paused_before()
        self._waiting = {trial.number: trial for trial in trials if trial.number in paused}
        return [trial for trial in trials if trial.number not in paused]

    def _paused_before(self) -> set[int]:
        """Returns the numbers of the trials that an earlier driver has paused."""
        return set()

    def lineage(self, number: int) -> list[Inheritance]:  # noqa: ARG002 - most have none
        """Returns whose weights a trial has gone on from."""
        return []

    def is_due(self, trial: Trial) -> bool:  # noqa: ARG002 - as above
        """Whether a trial has to pause, after its new records."""
        return False

    def pause(self, trial: Trial) -> None:
        """Makes a trial wait."""
        trial.optuna.set_user_attr(STATUS, "paused")
        self._waiting[trial.number] = trial

    def next(self, others_begin: bool) -> Trial | None:  # noqa: ARG002 - as above
        """Returns a paused trial that goes on now, if one may.

        Args:
            others_begin: Whether there are trials that have not begun.
        """
        return None

    def last(self) -> Trial | None:
        """Returns the best paused trial, which goes on to the end of its training."""
        return None

    def prepare(self, trial: Trial, folder: RunDir) -> None:
        """Prepares the folder of a trial that is launched."""

    @property
    def keys(self) -> list[str]:
        """The keys that change during a training, if they leave the weights' shapes as they are."""
        return []

    def variants(self, key: str) -> Iterator[list[dict[str, Scalar]]]:  # noqa: ARG002 - as above
        """Yields lists of points that differ in a key alone, to compare their models."""
        yield from ()

    def preflight(self, changes: Mapping[str, str]) -> None:
        """Takes note of the keys that change the shapes of a model's weights."""

    def end(self, trial: Trial, status: str) -> None:
        """Notes how a trial has ended; it waits no longer."""
