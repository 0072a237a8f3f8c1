"""What one tracker has been told of one folder, and telling it the rest."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from dlsweep.rundir import Result, RunDir, StudyDir, write_atomically
from dlsweep.trackers.base import State, Tracker, ViewLostError
from dlsweep.trackers.link import Link, Options

#: Records told between two notes of the position.
_BATCH = 500


@dataclass
class _Position:
    """How far one tracker has been told of one folder; kept in that folder.

    Attributes:
        options: The tracker's options. With others it is another tracker, told from the start.
        offset: The bytes of the record file that were told.
        told: The end that was told, if any.
        state: The tracker's own.
    """

    options: Options
    offset: int = 0
    told: dict[str, Any] | None = None
    state: State = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path, options: Options) -> _Position:
        try:
            kept = cls(**json.loads(path.read_text()))
        except FileNotFoundError:
            return cls(options)
        return kept if kept.options == options else cls(options)

    def save(self, path: Path) -> None:
        write_atomically(path, json.dumps(asdict(self)))


class StudyView:
    """One tracker's view of a study itself."""

    def __init__(self, study: StudyDir, link: Link) -> None:
        self._file = study.mirror_file(link.name)
        self._study = study
        self.link = link
        self._position: _Position | None = None

    @property
    def state(self) -> State | None:
        """What the tracker knows of the study; None before it was told."""
        return self._position.state if self._position else None

    def open(self, info: dict[str, Any]) -> None:
        """Tells of the study before its trials, once a process."""
        if self._position is None:
            info = {key: value for key, value in info.items() if key not in ("finished", "best")}
            self.link.call(lambda tracker: self._open(tracker, info))

    def close(self, info: dict[str, Any]) -> None:
        """Tells of the study behind its trials, if there is something new."""
        position = self._position
        if position and position.told != info:
            self._position = None
            self.link.call(lambda tracker: self._tell(tracker, info, position))

    def _open(self, tracker: Tracker, info: dict[str, Any]) -> None:
        position = _Position.load(self._file, self.link.options)
        try:
            self._tell(tracker, info, position)
        except ViewLostError:
            self._tell(tracker, info, _Position(self.link.options))

    def _tell(self, tracker: Tracker, info: dict[str, Any], position: _Position) -> None:
        tracker.log_study(self._study, info, position.state)
        position.told = info
        position.save(self._file)
        self._position = position


class RunView:
    """One tracker's view of one run."""

    def __init__(self, run: RunDir, link: Link) -> None:
        self._file = run.mirror_file(link.name)
        self._run = run
        self._link = link
        self._position: _Position | None = None

    def update(self, tracker: Tracker, parent: State, end: Result | None, verify: bool) -> None:
        """Tells all that is new, and how the run ended if it has."""
        told = asdict(end) if end else None
        if self._position is None:
            position = _Position.load(self._file, self._link.options)
            if end and position.told == told and not verify:
                return
            self._position = self._start(tracker, parent, position)
        self._log(tracker, self._position)
        if end and self._position.told != told:
            tracker.finish(self._run, end, self._position.state)
            self._position.told = told
            self._position.save(self._file)

    def _start(self, tracker: Tracker, parent: State, position: _Position) -> _Position:
        try:
            tracker.start(self._run, parent, position.state)
        except ViewLostError:
            position = _Position(self._link.options)
            tracker.start(self._run, parent, position.state)
        return position

    def _log(self, tracker: Tracker, position: _Position) -> None:
        records = self._run.records(position.offset)
        while batch := list(islice(records, _BATCH)):
            tracker.log(self._run, [record for record, _ in batch], position.state)
            position.offset = batch[-1][1]
            position.save(self._file)
            self._link.told += len(batch)
