"""The folder of a study: the one owner of every path and record of it that is no trial's.

The folder of a sweep holds those of its trials, and what is true of all of them::

    study.json        what the study is: objective, space, trackers; at its end the best trial
    study.db          Optuna's database
    trials/0007/      see dlsweep.rundir
    trials.csv        one row a trial, as is trials.parquet
    best.yaml         the best trial: its values, parameters, folder and command
    charts/           pictures of the whole study
    lock, lease.json  held by the driver, on this machine and for others
    mirror/           one file a tracker: how far it has been told
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from dlsweep.errors import StudyError
from dlsweep.rundir import RunDir, refuse_link


class StudyDir:
    """The paths of one study."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).absolute()
        self.info_file = self.path / "study.json"
        self.database = self.path / "study.db"
        self.lock_file = self.path / "lock"
        self.lease_file = self.path / "lease.json"
        self.trials = self.path / "trials"
        self.csv = self.path / "trials.csv"
        self.parquet = self.path / "trials.parquet"
        self.best = self.path / "best.yaml"
        self.charts = self.path / "charts"

    def trial(self, number: int) -> RunDir:
        """The run folder of a trial."""
        return RunDir(self.trials / self.name(number))

    @staticmethod
    def name(number: int) -> str:
        """How a trial's folder is called."""
        return f"{number:04d}"

    def mirror_file(self, tracker: str) -> Path:
        """Where the mirror keeps the tracker's parent run of this study."""
        return self.path / "mirror" / f"{tracker}.json"

    def info(self) -> dict[str, Any]:
        """What the study is, as its driver has written it."""
        return dict(json.loads(self.info_file.read_text()))

    def make_charts(self) -> Path:
        """Makes the folder of the charts, which is the study's own.

        Raises:
            StudyError: If it leads elsewhere, whoever made it.
        """
        refuse_link(self.charts)
        self.charts.mkdir(exist_ok=True)
        return self.charts

    def drawn_charts(self) -> list[Path]:
        """The charts that are there; none that leads elsewhere."""
        found = [] if self.charts.is_symlink() else sorted(self.charts.glob("*.png"))
        return [chart for chart in found if not chart.is_symlink()]

    def create(self) -> None:
        """Makes the folder.

        Raises:
            StudyError: If it cannot be made or written.
        """
        try:
            self.trials.mkdir(parents=True, exist_ok=True)
            probe = self.path / f".writable-{os.getpid()}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise StudyError(
                f"The folder {self.path} cannot be written: {error.strerror}.\n"
                "Give another with  outputs=/some/folder"
            ) from None
