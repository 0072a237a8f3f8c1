"""Estimates how much of the disk a sweep will need, from the trials that have ended."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from dlsweep.drive.progress import View, size
from dlsweep.folders.rundir import COMPLETED, RunDir
from dlsweep.folders.studydir import StudyDir
from dlsweep.run.keeping import Keep
from dlsweep.run.manifest import resume_files
from dlsweep.sweep.study import Study

#: After how many trials to estimate first; then after twice as many, and so on.
_FIRST = 4
#: The trials that are measured: the last ones that have ended.
_MEASURED = 32
#: Folders of a study that its trials do not fill, and the trials, which are measured one by one.
_NOT_GROWING = ("trials", "runs", "code", "check")


class Forecast:
    """Says once that the disk will be full before the sweep is over.

    Args:
        folder: The study folder.
        study: The study.
        keep: The policy for checkpoints of ended trials.
        total: The number of trials in all; without one there is no estimate.
        view: Shows the sentence.
    """

    def __init__(
        self, folder: StudyDir, study: Study, keep: Keep, total: int | None, view: View
    ) -> None:
        self._folder = folder
        self._study = study
        self._keep = keep
        self._total = total
        self._view = view
        self._due = _FIRST

    def ended(self) -> None:
        """Estimates, if it is time to."""
        finished = self._study.finished
        if self._total is None or not self._due <= finished < self._total:
            return
        self._due = 2 * finished
        free = shutil.disk_usage(self._folder.path).free
        need = self.need(self._total - finished)
        if need > free:
            self._due = self._total
            least = "" if self._keep == 1 else "  Keep less:  hydra.sweeper.keep=1\n"
            self._view.say(
                f"The disk will not do: the other {self._total - finished} trials need about "
                f"{size(need)}, and {size(free)} are free in {self._folder.path}.\n{least}"
                "  When it is full, the sweep stops; make room, and the same command resumes it.",
                "warning",
            )

    def need(self, rest: int) -> float:
        """Returns how many bytes that many further trials will need, when all have ended."""
        numbers = [trial.number for trial in self._study.finished_trials()]
        runs = [self._folder.trial(number) for number in numbers[-_MEASURED:]]
        runs = [run for run in runs if run.info_file.exists()]
        if not runs:
            return 0.0
        keeps_all = self._keep == "all"
        beside = _size(self._folder.path, _NOT_GROWING) / len(numbers)
        skipped = [] if keeps_all else [runs[0].checkpoints.name]
        each = _mean([_size(run.path, skipped) for run in runs])
        if keeps_all:
            return rest * (each + beside)
        completed = [run for run in runs if (end := run.result()) and end.status in COMPLETED]
        share = len(completed) / len(runs)
        more = rest * share
        if isinstance(self._keep, int):
            more = max(0.0, min(more, self._keep - len(numbers) * share))
        weights = _mean([size for run in completed if (size := _weights(run))])
        return rest * (each + beside) + more * weights


def _weights(run: RunDir) -> int:
    """Returns the bytes of the weights in a run's last checkpoint."""
    last = max(run.checkpoints.glob("step-*"), default=None)
    if last is None:
        return 0
    gone = {file.name for file in resume_files(last)}
    return sum(count for name, count in _files(last) if name not in gone)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _size(folder: Path, skip: Collection[str]) -> int:
    """Returns the bytes of the files in a folder, without some of its subfolders."""
    return sum(count for _, count in _files(folder, skip))


def _files(folder: Path, skip: Collection[str] = ()) -> Iterator[tuple[str, int]]:
    """Yields name and size of each file in a folder; some may vanish meanwhile."""
    with suppress(FileNotFoundError):
        for entry in os.scandir(folder):
            if entry.is_dir(follow_symlinks=False):
                if entry.name not in skip:
                    yield from _files(Path(entry))
            else:
                with suppress(FileNotFoundError):
                    yield entry.name, entry.stat(follow_symlinks=False).st_size
