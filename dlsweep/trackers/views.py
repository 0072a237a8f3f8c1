"""The views of studies and runs in one tracker: sync what is new, compare, rebuild."""

from __future__ import annotations

import heapq
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np

from dlsweep.errors import StudyError
from dlsweep.folders import beside
from dlsweep.folders.reading import read_json
from dlsweep.folders.rundir import Record, Result, RunDir, write_atomically
from dlsweep.folders.studydir import StudyDir
from dlsweep.trackers.base import Point, Readable, State, Tracker, ViewLostError
from dlsweep.trackers.link import Link, Options

#: Records synced between two writes of the position.
_BATCH = 1000
#: Keys of ``study.json`` that no view shows: addresses, and what stays of checkpoints.
_UNSEEN = ("storage", "tracking", "keep")


@dataclass
class _Position:
    """How far one folder is synced to one tracker; stored in that folder.

    Attributes:
        options: The tracker's options. With other options, everything is synced from the start.
        offset: The bytes of the record file that are synced.
        samples: The bytes of the system metrics' file that are synced.
        result: The result that is synced, if any.
        state: The tracker's own state.
    """

    options: Options
    offset: int = 0
    samples: int = 0
    result: dict[str, Any] | None = None
    state: State = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path, options: Options) -> _Position:
        try:
            kept = cls.read(path)
        except FileNotFoundError:
            return cls(options)
        return kept if kept.options == options else cls(options)

    @classmethod
    def read(cls, path: Path) -> _Position:
        fields = read_json(path)
        if "told" in fields:  # the name of ``result`` in older folders
            fields["result"] = fields.pop("told")
        kept = cls(**fields)
        return replace(kept, options=beside.found(kept.options, _folder(path)))

    def save(self, path: Path) -> None:
        options = beside.recorded(self.options, _folder(path))
        write_atomically(path, json.dumps({**asdict(self), "options": options}))


def _folder(position: Path) -> Path:
    """Returns the folder to which a position's file belongs."""
    return position.parent.parent


def _result(info: dict[str, Any] | None) -> dict[str, Any]:
    """Returns what ``study.json`` says about a study, without what no view shows."""
    return {key: value for key, value in (info or {}).items() if key not in _UNSEEN}


def _is_synced(kept: dict[str, Any] | None, end: Result | None) -> bool:
    """Whether a position's result is that of a run; fields that older results lack are empty."""
    if kept is None or end is None:
        return kept is None and end is None
    return json.dumps({**asdict(Result(end.status)), **kept}) == json.dumps(asdict(end))


def synced_trackers(run: RunDir | StudyDir) -> dict[str, tuple[Options, State]]:
    """Returns the options and the state of each tracker that a run, or a study, was synced to.

    Raises:
        StudyError: If a file of the mirror is damaged.
    """
    positions = {file.stem: _read(file) for file in sorted(run.path.glob("mirror/*.json"))}
    return {name: (one.options, one.state) for name, one in positions.items() if one.state}


def unsynced(run: RunDir, trackers: Mapping[str, Options]) -> list[str]:
    """Returns the names of the trackers that do not have all of an ended run yet.

    Args:
        run: The run folder.
        trackers: The options of the trackers that it is synced to, by name.
    """
    result = run.result()
    positions = {
        name: _Position.load(run.mirror_file(name), options) for name, options in trackers.items()
    }
    return [
        name for name, one in positions.items() if not (result and _is_synced(one.result, result))
    ]


def _read(file: Path) -> _Position:
    try:
        position = _Position.read(file)
        return replace(position, options=dict(position.options), state=dict(position.state))
    except (TypeError, ValueError) as error:
        raise StudyError(
            f"{file} is damaged: {error}.\nRemove it, and sync the run again:  "
            f"python -m dlsweep sync {file.parent.parent}"
        ) from None


class StudyView:
    """One tracker's view of a study."""

    def __init__(self, study: StudyDir, link: Link) -> None:
        self._file = study.mirror_file(link.name)
        self._study = study
        self.link = link
        self._position: _Position | None = None

    @property
    def state(self) -> State | None:
        """The tracker's state of the study; None before it is logged."""
        return self._position.state if self._position else None

    def open(self, info: dict[str, Any], verify: bool) -> None:
        """Logs the study before its trials, once in a process.

        Args:
            info: The content of ``study.json``.
            verify: Whether to check that the view exists, even if all of it is synced.
        """
        if self._position is not None:
            return
        position = _Position.load(self._file, self.link.options)
        if _result(position.result) == _result(info) and not verify:
            self._position = position
            return
        begun = {key: value for key, value in info.items() if key not in ("finished", "best")}
        self.link.call(lambda tracker: self._open(tracker, begun, position))

    def close(self, info: dict[str, Any]) -> None:
        """Logs the study after its trials, if something is new."""
        position = self._position
        if position and _result(position.result) != _result(info):
            self._position = None
            self.link.call(lambda tracker: self._tell(tracker, info, position))

    def differences(self, tracker: Tracker, info: dict[str, Any]) -> list[str]:
        """Returns a sentence for each thing that the tracker's view of the study lacks."""
        if not isinstance(tracker, Readable) or self.state is None:
            return []
        return list(tracker.missing_of_study(self._study, info, self.state))

    def rebuild(self) -> None:
        """Makes :meth:`close` log all of the study again."""
        self._position = _Position(self.link.options)

    def _open(self, tracker: Tracker, info: dict[str, Any], position: _Position) -> None:
        try:
            self._tell(tracker, info, position)
        except ViewLostError:
            self._tell(tracker, info, _Position(self.link.options))

    def _tell(self, tracker: Tracker, info: dict[str, Any], position: _Position) -> None:
        tracker.log_study(self._study, info, position.state)
        position.result = _result(info)
        position.save(self._file)
        self._position = position


class RunView:
    """One tracker's view of one run."""

    def __init__(self, run: RunDir, link: Link) -> None:
        self._file = run.mirror_file(link.name)
        self._run = run
        self._link = link
        self._position: _Position | None = None
        self._started_by: Tracker | None = None

    def update(self, tracker: Tracker, parent: State, end: Result | None, verify: bool) -> None:
        """Logs all new records, and the result if the run has ended."""
        if self._position is None or self._started_by is not tracker:
            position = _Position.load(self._file, self._link.options)
            if end and _is_synced(position.result, end) and not verify:
                return
            self._position = self._start(tracker, parent, position)
            self._started_by = tracker
        self._log(tracker, self._position)
        if end and not _is_synced(self._position.result, end):
            tracker.finish(self._run, end, self._position.state)
            self._position.result = asdict(end)
            self._position.save(self._file)

    def differences(self, tracker: Tracker, parent: State, end: Result | None) -> list[str]:
        """Returns a sentence for each difference between the tracker and the run folder."""
        if not isinstance(tracker, Readable):
            return [f"{type(tracker).__name__} cannot be read back"]
        position = _Position.load(self._file, self._link.options)
        if not position.state:
            return ["it was never synced"]
        try:
            tracker.start(self._run, parent, position.state)
        except ViewLostError as lost:
            return [str(lost)]
        records = chain(self._run.records(), self._run.samples())
        truth = [(r.step, n, v) for r, _ in records for n, v in r.metrics.items()]
        found = _compare(truth, tracker.read(self._run, position.state))
        if not _is_synced(position.result, end):
            found.append("its result was not synced")
        elif end:
            found += tracker.missing(self._run, end, position.state)
        return found

    def rebuild(self, tracker: Tracker, parent: State, end: Result | None) -> None:
        """Removes the tracker's view and syncs the run from its start."""
        position = _Position.load(self._file, self._link.options)
        if position.state and isinstance(tracker, Readable):
            tracker.remove(self._run, position.state)
        self._file.unlink(missing_ok=True)
        self._position = None
        self.update(tracker, parent, end, verify=True)

    def _start(self, tracker: Tracker, parent: State, position: _Position) -> _Position:
        try:
            tracker.start(self._run, parent, position.state)
        except ViewLostError:
            position = _Position(self._link.options)
            tracker.start(self._run, parent, position.state)
        return position

    def _log(self, tracker: Tracker, position: _Position) -> None:
        news = self._news(position)
        while batch := list(islice(news, _BATCH)):
            tracker.log(self._run, [record for record, _, _ in batch], position.state)
            for _, file, end in batch:
                setattr(position, file, end)
            position.save(self._file)
            self._link.synced += len(batch)

    def _news(self, position: _Position) -> Iterator[tuple[Record, str, int]]:
        """Yields records that are not synced yet, by wall time, each with the position after it."""
        records = ((one, "offset", end) for one, end in self._run.records(position.offset))
        samples = ((one, "samples", end) for one, end in self._run.samples(position.samples))
        return heapq.merge(records, samples, key=lambda item: item[0].time)


def _compare(truth: Iterable[Point], read: Iterable[Point]) -> list[str]:
    """Returns what is missing and what is surplus, of the metrics in the run folder.

    Values are compared as 32-bit floats, because TensorBoard stores no more. MLflow's largest
    number, which it stores for infinity, becomes infinite then.
    """
    expected = Counter(map(_rounded, truth))
    names = {name for _, name, _ in expected}
    found = Counter(_rounded(point) for point in read if point[1] in names)
    differences = []
    for points, what in ((expected - found, "missing"), (found - expected, "not in the folder")):
        if points:
            step, name, value = min(points, key=lambda point: (point[0], point[1]))
            differences.append(
                f"{points.total()} of {expected.total()} values are {what}, "
                f"the first {name}={value} at step {step}"
            )
    return differences


def _rounded(point: Point) -> tuple[int, str, str]:
    step, name, value = point
    with np.errstate(over="ignore"):
        return step, name, str(np.float32(value))
