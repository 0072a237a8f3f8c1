"""Follows a study from its folder alone: what runs, what has ended, what is best so far.

It reads ``study.json`` and the run folders, from any host that sees them, and opens no database.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any, get_args

from dlsweep.drive.progress import Counts, Shown, View
from dlsweep.errors import StudyError
from dlsweep.folders.attempt import Attempt
from dlsweep.folders.reading import open_file
from dlsweep.folders.rundir import COMPLETED, FAILURES, UNFINISHED, Record, Result, RunDir, Status
from dlsweep.folders.studydir import StudyDir
from dlsweep.folders.watch import Watch
from dlsweep.results.front import in_words, with_trial

#: Seconds for which the result of a failed trial may still change: its driver may retry it.
_FRESH = 1.0
#: Seconds after which it is not read any more; a process may take long to disappear.
_SETTLED = 60.0
#: The most bytes of records that are read of a run that is first seen.
_TAIL = 1 << 18


@dataclass
class Seen:
    """What is known of a trial.

    Attributes:
        folder: Its run folder.
        status: Its status, or ``running``.
        result: Its result, if it has one.
        since: When this look first saw that result, by the monotonic clock.
        offset: The position in its records; None before any is read.
        last: Its last record with an objective, or else its last one.
    """

    folder: RunDir
    status: str = "waiting"
    result: Result | None = None
    since: float = 0.0
    offset: int | None = None
    last: Record | None = None

    @property
    def is_over(self) -> bool:
        """Whether it has ended for good."""
        return self.result is not None and self.result.status not in UNFINISHED

    def overrides(self) -> list[str]:
        """Returns the overrides of this trial only, without those that all trials have."""
        info = self.folder.info()
        return [one for one in info.overrides if one.partition("=")[0].lstrip("+") in info.params]


class Follower:
    """Reads the state of a study again and again, and shows it in a view.

    Args:
        folder: The study folder.
        watch: Tells whether its driver is alive.

    Raises:
        StudyError: If it is not a study folder, or one of its files is damaged.
    """

    def __init__(self, folder: StudyDir, watch: Watch) -> None:
        self.folder = folder
        self.watch = watch
        self.record: dict[str, Any] = folder.description()
        self.trials: dict[str, Seen] = {}
        self.front: dict[int, list[float]] = {}
        self._open: dict[str, Seen] = {}  # what can change, or is not shown yet
        self._told: set[str] = set()
        self._is_alive = True

    @property
    def objective(self) -> list[str]:
        """The objectives."""
        return list(self.record["objective"])

    @property
    def running(self) -> list[Seen]:
        """The running trials, by number."""
        return [seen for seen in self.trials.values() if seen.status == "running"]

    def states(self) -> Counter[str]:
        """Counts the trials by status."""
        return Counter(seen.status for seen in self.trials.values())

    def look(self, is_alive: bool) -> None:
        """Reads the folders anew, except for trials that have ended."""
        self.record = self.folder.description()
        self._is_alive = is_alive
        for name in sorted(self._names() - self.trials.keys(), key=int):
            self.trials[name] = self._open[name] = Seen(RunDir(self.folder.trials / name))
        before = [seen.status for seen in self._open.values()]
        for seen in self._open.values():
            self._read(seen)
        if [seen.status for seen in self._open.values()] != before:
            self._find_best()

    def _find_best(self) -> None:
        self.front = {}
        for name, seen in self.trials.items():
            metrics = seen.result.metrics if seen.result else {}
            if seen.status in COMPLETED and metrics.keys() >= set(self.objective):
                values = [metrics[one] for one in self.objective]
                directions = self.record["directions"]
                self.front = with_trial(self.front, int(name), values, directions)

    def show(self, view: View, is_first: bool) -> None:
        """Shows what has changed.

        Args:
            view: The view.
            is_first: Whether nothing is shown yet; what has ended before is only counted then.
        """
        view.objective = self.objective
        view.is_paused = self.folder.paused_file.exists()
        self._count(view.counts)
        if is_first:
            view.begin(self.folder.path, self.record["name"], self.record["directions"])
        for name, seen in list(self._open.items()):
            if seen.status == "running" and name not in view.running:
                self._told.discard(name)
                self._show_running(view, seen, is_first)
            elif name in view.running and seen.result and not seen.is_over:
                self._end(view, seen, seen.result)
            elif seen.is_over and name not in self._told:
                self._show_end(view, seen, is_first)
            elif seen.is_over and self._is_settled(seen):
                del self._open[name]
        for seen in self.running:
            self._log(view, seen)
        view.found_best(self.front, in_words(self.front))

    def _log(self, view: View, seen: Seen) -> None:
        for record in self._new_records(seen):
            view.logged(seen.folder, record)

    def _is_final(self, seen: Seen) -> bool:
        """Whether the driver will not change the result of a trial that is over."""
        assert seen.result
        has_values = seen.result.metrics.keys() >= set(self.objective)
        if seen.status in ("pruned", "stopped", "rejected") or (
            seen.status in COMPLETED and has_values
        ):
            return True
        return not self._is_alive or time.monotonic() - seen.since > _FRESH

    def _is_settled(self, seen: Seen) -> bool:
        may_be_retried = seen.status in FAILURES and time.monotonic() - seen.since < _SETTLED
        return self._is_final(seen) and not may_be_retried

    def _show_running(self, view: View, seen: Seen, is_first: bool) -> None:
        attempt = Attempt.current(seen.folder).number
        if is_first:
            view.found(seen.folder, seen.overrides(), attempt)
        else:
            view.started(seen.folder, seen.overrides(), attempt > 1, attempt)
        lasted = max(0.0, time.time() - _begun(seen.folder))
        view.running[seen.folder.path.name].began = time.monotonic() - lasted

    def _show_end(self, view: View, seen: Seen, is_first: bool) -> None:
        assert seen.result
        name = seen.folder.path.name
        if is_first:
            self._told.add(name)
            view.counts.add(seen.result.status)
        elif self._is_final(seen):
            self._told.add(name)
            self._end(view, seen, seen.result)

    def _end(self, view: View, seen: Seen, result: Result) -> None:
        if result.status == "rejected":
            view.rejected(seen.folder, seen.overrides(), result.reason)
            return
        name = seen.folder.path.name
        if name not in view.running and _begun(seen.folder):  # it began since the last look
            self._show_running(view, seen, is_first=False)
        shown = view.running.setdefault(name, Shown(name, seen.overrides()))
        shown.began = time.monotonic() - max(0.0, result.ended - _begun(seen.folder))
        self._log(view, seen)
        view.ended(seen.folder, result)

    def _count(self, counts: Counts) -> None:
        """Counts the trials whose end is shown, and those that an earlier driver has ended."""
        total, slots = self.record.get("n_trials"), self.record.get("slots")
        counts.total = total if isinstance(total, int) else None
        counts.slots = slots if isinstance(slots, int) else 1
        counts.completed = counts.pruned = counts.stopped = counts.failed = counts.rejected = 0
        for name in self._told:
            counts.add(self.trials[name].status)
        since = self.watch.owner.since if self.watch.owner else time.time()
        counts.began = time.monotonic() - max(0.0, time.time() - since)
        over = [seen.result for seen in self.trials.values() if seen.is_over]
        counts.begun_with = sum(result is not None and result.ended < since for result in over)

    def _names(self) -> set[str]:
        try:
            names = os.listdir(self.folder.trials)
        except FileNotFoundError:
            return set()
        return {name for name in names if name.isascii() and name.isdigit()}

    def _read(self, seen: Seen) -> None:
        result = seen.folder.result()
        if result and not _is_whole(result):
            raise StudyError(f"{seen.folder.result_file} is damaged: {result}")
        if result != seen.result:
            seen.result, seen.since = result, time.monotonic()
        if result is not None:
            seen.status = result.status
        elif self._is_alive and _begun(seen.folder) >= self.watch.since:
            seen.status = "running"
        else:
            seen.status = "interrupted" if seen.folder.info_file.exists() else "waiting"

    def _new_records(self, seen: Seen) -> list[Record]:
        if seen.offset is None:
            seen.offset = _tail(seen.folder)
        found = []
        for record, end in seen.folder.records(seen.offset):
            seen.offset = end
            found.append(record)
            if self.objective[0] in record.metrics or not (
                seen.last and self.objective[0] in seen.last.metrics
            ):
                seen.last = record
        return found


def _begun(folder: RunDir) -> float:
    """Returns when the last attempt of a run began, by the clock of the file system; 0 if never."""
    try:
        return Attempt.current(folder).file.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _is_whole(result: Result) -> bool:
    """Whether what is shown of a result is of the right type; anybody may have written it."""
    values = result.metrics.values() if isinstance(result.metrics, dict) else [None]
    numbers = [result.ended, *values]
    return result.status in get_args(Status) and all(type(one) in (int, float) for one in numbers)


def _tail(folder: RunDir) -> int:
    """Returns where the last complete records of a run begin."""
    try:
        with open_file(folder.records_file) as file:
            size = file.seek(0, os.SEEK_END)
            if size <= _TAIL:
                return 0
            file.seek(size - _TAIL)
            file.readline()
            return file.tell()
    except FileNotFoundError:
        return 0
