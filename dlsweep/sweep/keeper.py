"""Removes what ended trials no longer need of their checkpoints, once every tracker has it.

It removes in a thread, so that a slow disk does not delay a running trial's verdict.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from dlsweep.drive.progress import View
from dlsweep.errors import DlsweepError, StudyLockedError
from dlsweep.folders.lease import locked
from dlsweep.folders.lock import Lock
from dlsweep.folders.rundir import RunDir
from dlsweep.folders.studydir import StudyDir
from dlsweep.results.tables import weights_stay
from dlsweep.run.keeping import Keep, read_keep, surplus
from dlsweep.sweep.study import Study
from dlsweep.trackers.views import unsynced

#: Seconds between two looks at which trials are synced, and how many times longer than the last
#: look at least: with 100,000 trials a look takes 0.1 s, in which no trial is answered.
_PAUSE, _LONGER = 1.0, 20.0


def policy(asked: Keep | None, begun: Mapping[str, Any], folder: StudyDir, view: View) -> Keep:
    """Returns a study's policy: what is asked for, or else what it has begun with.

    A study of an earlier version goes on to keep everything. What changes is printed.

    Args:
        asked: The policy in the config, if there is one.
        begun: The study's record so far; empty for a new study.
        folder: The study folder.
        view: Shows the change.
    """
    if not begun:
        return asked or "best"
    before = read_keep("keep in study.json", begun.get("keep", "all"))
    keep = asked or before
    if keep != before:
        view.say(f"hydra.sweeper.keep is {keep} from now on; before, it was {before}.")
    if keep != before == "all":
        view.say(
            "Trials that began before keep all their checkpoints. See what would go:  "
            f"python -m dlsweep prune {folder.path} --keep {keep}"
        )
    if keep == "all" and "keep" not in begun:
        view.say(
            "An earlier version began this study, so all its trials keep all their checkpoints. "
            "To choose what new ones keep, type  hydra.sweeper.keep=best"
        )
    return keep


class Keeper:
    """Applies a study's policy for the checkpoints of ended trials.

    A trial that began under ``all`` keeps everything, whatever the policy is by now.

    Args:
        folder: The study folder.
        study: The study.
        keep: The policy.
        view: Shows what could not be removed.
    """

    def __init__(self, folder: StudyDir, study: Study, keep: Keep, view: View) -> None:
        self._folder = folder
        self._study = study
        self._keep = keep
        self._view = view
        self._wanted: dict[int, bool] = {}
        self._applied: dict[int, bool] = {}
        self._known = -1
        self._waiting: dict[str, set[str]] = {}
        self._pool = ThreadPoolExecutor(1)
        self._removing: Future[list[str]] | None = None
        self._next = 0.0

    def turn(self) -> None:
        """Removes what may go by now, in the background."""
        if self._keep == "all" or time.monotonic() < self._next:
            return
        began = time.monotonic()
        self._next = began + _PAUSE
        if self._removing and not self._removing.done():
            return
        self.settle()
        if due := self._due():
            self._removing = self._pool.submit(self._remove, due)
        self._next += _LONGER * (time.monotonic() - began)

    def settle(self) -> None:
        """Waits until what has begun is removed; prints what could not be."""
        removing, self._removing = self._removing, None
        for sentence in removing.result() if removing else ():
            self._view.say(sentence, "warning")

    def conclude(self) -> None:
        """Removes the rest, when the sweep and its mirror have ended; prints what has to wait."""
        if self._keep == "all":
            return
        try:
            with locked(self._folder):
                for sentence in self._remove(self._due()):
                    self._view.say(sentence, "warning")
        except StudyLockedError:
            return  # that driver does it
        if self._waiting:
            names = ", ".join(sorted(set().union(*self._waiting.values())))
            self._view.say(
                f"{len(self._waiting)} ended trials keep all their checkpoints, because they are "
                f"not synced to {names}. Then type  python -m dlsweep prune {self._folder.path}",
                "warning",
            )

    def _due(self) -> dict[int, bool]:
        """Returns the trials whose folder is not as wanted yet, and whether their weights stay."""
        if self._known != self._study.finished:
            self._known = self._study.finished
            trials = self._study.finished_trials()
            directions = self._study.settings.directions
            self._wanted = weights_stay(self._folder, trials, directions, self._keep)
        applied = self._applied
        return {
            number: weights
            for number, weights in self._wanted.items()
            if applied.get(number) != weights
        }

    def _remove(self, due: Mapping[int, bool]) -> list[str]:
        tracking = self._folder.info()["tracking"]
        failures = []
        self._waiting = {}
        for number, keeps_weights in due.items():
            run = self._folder.trial(number)
            try:
                if self._thin(run, keeps_weights, tracking):
                    self._applied[number] = keeps_weights
            except (OSError, DlsweepError) as error:
                failures.append(f"The checkpoints of {run.path.name} stay: {error}")
                self._applied[number] = keeps_weights
        return failures

    def _thin(self, run: RunDir, keeps_weights: bool, tracking: Mapping[str, Any]) -> bool:
        """Removes what goes of a trial; returns False if it has to wait."""
        is_empty = not any(run.checkpoints.glob("*step-*"))
        if is_empty or not run.info_file.exists() or run.info().keep == "all":
            return True
        if behind := unsynced(run, tracking):
            self._waiting[run.path.name] = set(behind)
            return False
        lock = Lock(run.lock_file)
        if not lock.acquire():  # somebody trains it by hand
            return False
        try:
            surplus(run, keeps_weights).remove(self._keep)
        finally:
            lock.release()
        return True
