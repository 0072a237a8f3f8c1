"""The folder of a study: the one owner of every path and record of it that is no trial's.

The folder of a sweep holds those of its trials, and what is true of all of them::

    study.json        what the study is: objective, space, trackers; at its end the best trial
    study.db          Optuna's database
    trials/0007/      see dlsweep.folders.rundir
    trials.csv        one row a trial, as is trials.parquet
    best.yaml         the best trial: its values, parameters, folder and command
    charts/           pictures of the whole study
    lock, lease.json  held by the driver, on this machine and for others
    mirror/           one file a tracker: how far it has been told
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from pathlib import Path
from typing import Any
from urllib.parse import quote

from dlsweep.errors import StudyError
from dlsweep.folders.rundir import RunDir, refuse_link
from dlsweep.security import addresses
from dlsweep.security.secrets import resolved


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

    def record(self) -> dict[str, Any]:
        """What the study is, as anybody may have written it.

        Raises:
            StudyError: If this is no study, or its record is damaged or names no study's database.
            ConfigError: If its storage is one that no command has named.
        """
        if not self.info_file.exists():
            raise StudyError(
                f"{self.path} is not a study's folder: it has no {self.info_file.name}.\n"
                "Expected the folder of a sweep, such as outputs/mnist"
            )
        try:
            record = self.info()
            storage = str(record["storage"])
            assert {"name", "objective", "directions", "command"} <= record.keys()
        except (ValueError, TypeError, KeyError, AssertionError) as error:
            raise StudyError(f"{self.info_file} is damaged: {error!r}") from None
        if self.database.exists():
            return {**record, "storage": f"sqlite:///{self.database}"}
        addresses.refuse_unknown({"storage": storage}, self.path)
        if storage.startswith("sqlite") and not _is_study(resolved(storage).partition("///")[2]):
            raise StudyError(f"{self.info_file} names {storage}, where no study lies.")
        return record

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


def _is_study(path: str) -> bool:
    try:
        with contextlib.closing(sqlite3.connect(f"file:{quote(path)}?mode=ro", uri=True)) as found:
            return bool(found.execute("SELECT 1 FROM studies LIMIT 1").fetchone())
    except sqlite3.Error:
        return False
