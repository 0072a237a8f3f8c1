"""The study folder: the one owner of every path and record of a study, except its trials'.

It contains the trials' run folders and what belongs to the whole study::

    study.json        describes the study: objective, space, trackers; at its end the best trial
    study.db          Optuna's database
    trials/0007/      see dlsweep.folders.rundir
    trials.csv        one row for each trial, as in trials.parquet
    best.yaml         the best trial: its values, parameters, folder and command
    charts/           charts of the study
    lock, lease.json  the driver's lock, on this machine and for others
    mirror/           one file for each tracker: how far it is synced
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
from dlsweep.folders import beside
from dlsweep.folders.database import sqlite_path, sqlite_url
from dlsweep.folders.reading import read_json
from dlsweep.folders.rundir import RunDir, refuse_link, write_atomically
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
        """Returns the run folder of a trial."""
        return RunDir(self.trials / self.name(number))

    @staticmethod
    def name(number: int) -> str:
        """Returns the name of a trial's folder."""
        return f"{number:04d}"

    def mirror_file(self, tracker: str) -> Path:
        """Returns the file with a tracker's parent run of this study."""
        return self.path / "mirror" / f"{tracker}.json"

    def info(self) -> dict[str, Any]:
        """Reads ``study.json`` as the driver has written it, with absolute paths of databases."""
        info = dict(read_json(self.info_file))
        if "tracking" in info:
            info["tracking"] = beside.found(info["tracking"], self.path)
        return info

    def write_info(self, info: dict[str, Any]) -> None:
        """Writes ``study.json``."""
        record = {**info, "tracking": beside.recorded(info["tracking"], self.path)}
        write_atomically(self.info_file, json.dumps(record, indent=1))

    def record(self) -> dict[str, Any]:
        """Reads and checks ``study.json``, which anybody may have written.

        Raises:
            StudyError: If the folder is not a study folder, or the file is damaged.
            ConfigError: If its storage is a server that no command of the user has named.
        """
        if not self.info_file.exists():
            raise StudyError(
                f"{self.path} is not a study folder: it has no {self.info_file.name}.\n"
                "Expected the folder of a sweep, such as outputs/mnist"
            )
        try:
            record = self.info()
            storage = str(record["storage"])
            assert {"name", "objective", "directions", "command"} <= record.keys()
        except (ValueError, TypeError, KeyError, AssertionError) as error:
            raise StudyError(f"{self.info_file} is damaged: {error!r}") from None
        if self.database.exists():
            return {**record, "storage": sqlite_url(self.database)}
        addresses.refuse_unknown({"storage": storage}, self.path)
        database = sqlite_path(resolved(storage))
        if storage.startswith("sqlite") and not (database and _is_study(database)):
            raise StudyError(
                f"{self.info_file} contains the storage {storage}, where there is no study."
            )
        return record

    def make_charts(self) -> Path:
        """Creates the folder of the charts.

        Raises:
            StudyError: If it is a symbolic link.
        """
        refuse_link(self.charts)
        self.charts.mkdir(exist_ok=True)
        return self.charts

    def drawn_charts(self) -> list[Path]:
        """Returns the charts that exist, without symbolic links."""
        found = [] if self.charts.is_symlink() else sorted(self.charts.glob("*.png"))
        return [chart for chart in found if not chart.is_symlink()]

    def create(self) -> None:
        """Creates the folder.

        Raises:
            StudyError: If it cannot be created or written.
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


def _is_study(path: Path) -> bool:
    try:
        address = f"file:{quote(str(path))}?mode=ro"
        with contextlib.closing(sqlite3.connect(address, uri=True)) as found:
            return bool(found.execute("SELECT 1 FROM studies LIMIT 1").fetchone())
    except sqlite3.Error:
        return False
