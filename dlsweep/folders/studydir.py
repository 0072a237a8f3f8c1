"""The study folder: the one owner of every path and record of a study, except its trials'.

It contains the trials' run folders and what belongs to the whole study::

    study.json        describes the study: objective, space, trackers; at its end the best trial
    study.db          Optuna's database
    trials/0007/      see dlsweep.folders.rundir
    trials.csv        one row for each trial, as in trials.parquet
    best.yaml         the best trial: its values, parameters, folder and command
    deploy.json       the trial to deploy, chosen by ``python -m dlsweep best``
    report.html       the report: all of the study on one page
    warm_start.json   the trials of earlier studies that its sampler has started with
    code/<digest>/    a copy of the user's code, which trials import from
    lock, lease.json  the driver's lock, on this machine and for others
    requests/         what other processes ask of the driver; see dlsweep.folders.requests
    paused            while it exists, no trial starts
    mirror/           one file for each tracker: how far it is synced
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sqlite3
import uuid
from pathlib import Path
from typing import Any
from urllib.parse import quote

from dlsweep.errors import ConfigError, StudyError
from dlsweep.folders import beside
from dlsweep.folders.database import sqlite_path, sqlite_url
from dlsweep.folders.reading import read_json, read_text
from dlsweep.folders.rundir import RunDir, write_atomically
from dlsweep.folders.yaml_text import parse_yaml
from dlsweep.security import addresses
from dlsweep.security.secrets import resolved

#: What an address begins with; a path has lost one slash.
_ADDRESS = re.compile(r"[A-Za-z][\w+.-]*:/")


class StudyDir:
    """The paths of one study."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).absolute()
        self.info_file = self.path / "study.json"
        self.database = self.path / "study.db"
        self.lock_file = self.path / "lock"
        self.lease_file = self.path / "lease.json"
        self.requests = self.path / "requests"
        self.paused_file = self.path / "paused"
        self.trials = self.path / "trials"
        self.csv = self.path / "trials.csv"
        self.parquet = self.path / "trials.parquet"
        self.best = self.path / "best.yaml"
        self.deploy = self.path / "deploy.json"
        self.report = self.path / "report.html"
        self._id: str | None = None
        self.warm_start = self.path / "warm_start.json"

    def trial(self, number: int) -> RunDir:
        """Returns the run folder of a trial."""
        return RunDir(self.trials / self.name(number))

    @staticmethod
    def name(number: int) -> str:
        """Returns the name of a trial's folder."""
        return f"{number:04d}"

    @property
    def id(self) -> str:
        """The study's id: the recorded one, or a new one."""
        if self._id is None:
            recorded = self.info().get("id") if self.info_file.exists() else None
            self._id = str(recorded or uuid.uuid4().hex)
        return self._id

    def last_number(self) -> int | None:
        """Returns the highest number of a trial that has a folder."""
        names = (path.name for path in self.trials.glob("*") if path.name.isdecimal())
        return max(map(int, names), default=None)

    def best_number(self) -> int | None:
        """Reads the number of the trial to deploy, or else of the best one; None if there is none.

        Raises:
            StudyError: If the file is damaged.
        """
        file = self.deploy if self.deploy.exists() else self.best
        try:
            record = parse_yaml(read_text(file))  # JSON is YAML
        except FileNotFoundError:
            return None
        except (ValueError, RecursionError) as error:
            raise StudyError(f"{file} is damaged: {error}") from None
        number = record.get("number")
        if not isinstance(number, int) or number < 0:
            raise StudyError(f"{file} is damaged: its number is {number!r}.")
        return number

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

    def description(self) -> dict[str, Any]:
        """Reads and checks ``study.json``, which anybody may have written; opens no storage.

        Raises:
            StudyError: If the folder is not a study folder, or the file is damaged.
        """
        if not self.info_file.exists():
            raise StudyError(
                f"{self.path} is not a study folder: it has no {self.info_file.name}.\n"
                "Expected the folder of a sweep, such as outputs/mnist"
            )
        try:
            record = self.info()
            _check_fields(record)
        except (ValueError, TypeError, KeyError) as error:
            raise StudyError(f"{self.info_file} is damaged: {error!r}") from None
        return record

    def record(self) -> dict[str, Any]:
        """Reads and checks ``study.json`` for a command that opens the study's storage.

        Raises:
            StudyError: As :meth:`description`, or if there is no study in the storage.
            ConfigError: If its storage is a server that no command of the user has named.
        """
        record = self.description()
        storage = str(record["storage"])
        if storage.startswith("sqlite") and self.database.exists():
            return {**record, "storage": sqlite_url(self.database)}
        addresses.refuse_unknown({"storage": storage}, self.path)
        database = sqlite_path(resolved(storage))
        if storage.startswith("sqlite") and not (database and _is_study(database)):
            raise StudyError(
                f"{self.info_file} contains the storage {storage}, where there is no study."
            )
        return record

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


def refuse_address(folder: object) -> None:
    """Checks that the folder of results is no address, such as ``s3://…``.

    Raises:
        ConfigError: If it is.
    """
    if _ADDRESS.match(str(folder)):
        raise ConfigError(
            f"outputs: Received {folder}. Expected a folder: locks and atomic checkpoints need a "
            "file system.\nNodes of a cluster that do not share it send what they record there. "
            "Copy the folder elsewhere when the sweep has ended."
        )


def studies_in(folder: Path) -> list[StudyDir]:
    """Returns the study in a folder and those in its subfolders, by name."""
    found = [folder, *sorted(folder.glob("*"))]
    return [StudyDir(path) for path in found if (path / "study.json").exists()]


def _check_fields(record: dict[str, Any]) -> None:
    """Checks the fields that every command needs."""
    if not isinstance(record["name"], str):
        raise TypeError("name is not a text")
    str(record["storage"])
    for key in ("objective", "directions", "command"):
        texts = record[key]
        if not (isinstance(texts, list) and all(isinstance(text, str) for text in texts)):
            raise TypeError(f"{key} is not a list of texts")
    directions = record["directions"]
    if not directions or len(directions) != len(record["objective"]):
        raise ValueError("there is not one direction for each objective")
    if not {"minimize", "maximize"}.issuperset(directions):
        raise ValueError(f"the directions are {directions}")


def _is_study(path: Path) -> bool:
    try:
        address = f"file:{quote(str(path))}?mode=ro"
        with contextlib.closing(sqlite3.connect(address, uri=True)) as found:
            return bool(found.execute("SELECT 1 FROM studies LIMIT 1").fetchone())
    except sqlite3.Error:
        return False
