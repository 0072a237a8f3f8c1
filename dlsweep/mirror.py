"""Run folders to trackers: tells each tracker every record once, however often it is killed.

How far a tracker has been told lies in the run folder, in ``mirror/<tracker>.json``, together
with whatever the tracker itself needs to go on. So a tracker that was down, or was added later,
is brought up to date at any time, and a view that was deleted is rebuilt.

Beside a sweep the mirror is a process of its own (:func:`keep_up`): a slow tracker costs the
training nothing. Its standard input is a pipe from the driver; when that closes, the driver is
done or dead, and the mirror brings everything up to date and exits.
"""

from __future__ import annotations

import json
import os
import select
import signal
from collections import Counter
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from dlsweep.errors import (
    ConfigError,
    StudyError,
    StudyLockedError,
    TrackerError,
    did_you_mean,
)
from dlsweep.rundir import Lock, Result, RunDir, StudyDir, write_atomically
from dlsweep.trackers import Tracker
from dlsweep.trackers.base import State, ViewLostError
from dlsweep.trackers.link import Announce, Link, Options

#: Seconds between two looks at the folders.
_LOOK_EVERY = 0.4
#: Seconds to wait for another mirror of the same folder.
_LOCK_PATIENCE = 15.0
#: Records told between two notes of the position.
_BATCH = 500
_NICENESS = 10


def sync(folder: str | os.PathLike[str], trackers: list[str] | None = None) -> dict[str, int]:
    """Brings the trackers of a folder up to date, and rebuilds views that were deleted.

    Args:
        folder: A study, a run, or a folder that holds ``runs/``.
        trackers: Their names in the config; None stands for all that the runs have.

    Returns:
        How many records each tracker was told.

    Raises:
        StudyError: If the folder is none of these.
        StudyLockedError: If another process keeps on mirroring it.
        ConfigError: If a name is no tracker of the runs.
        TrackerError: If a tracker does not work; the others are up to date then.
    """
    places = _connect(Path(folder), trackers, verify=True)
    with ExitStack() as holds:
        for place in places:
            place.hold(holds)
            place.turn()
    links = [link for place in places for link in place.links]
    if failures := {f"{link.name}: {link.failure}": None for link in links if link.failure}:
        raise TrackerError("\n".join(failures))
    told: Counter[str] = Counter()
    for link in links:
        told[link.name] += link.told
    return dict(told)


def keep_up(folder: str | os.PathLike[str], trackers: list[str] | None = None) -> bool:
    """Mirrors a study or a run until standard input closes, and then once more to the end.

    Says on standard output, as one line of JSON a tracker, that it works and how to view it
    (``{"tracker", "ready", "view"}``) or why it does not (``{"tracker", "error"}``). A tracker
    that fails later is said on standard error and tried again, after 1 to 30 seconds.

    Returns:
        Whether every tracker was up to date at the end.

    Raises:
        StudyError, StudyLockedError, ConfigError: As :func:`sync`.
    """
    places = _connect(Path(folder), trackers, announce=_print_line)
    with ExitStack() as holds:
        for place in places:
            place.hold(holds)
        following = True
        while following:
            for place in places:
                place.turn()
            following = _input_stays_open(_LOOK_EVERY)
        for place in places:
            place.look_again()
            place.turn()
    return not any(link.failure for place in places for link in place.links)


def main(folder: str, trackers: list[str], follow: bool) -> int:
    """The verb ``sync``: mirrors a folder once, or until standard input closes.

    Args:
        folder: A study, a run, or a folder that holds ``runs/``.
        trackers: Names of trackers; none stands for all.
        follow: Whether to go on until standard input closes, unmoved by Ctrl-C.

    Returns:
        The exit code: 0 if every tracker is up to date, 1 if one is behind.
    """
    if follow:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        os.nice(_NICENESS)
        return 0 if keep_up(folder, trackers or None) else 1
    for name, told in sync(folder, trackers or None).items():
        print(f"{name}: {told} new records")
    return 0


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


class _StudyView:
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


class _RunView:
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


class _Watched:
    """A run that is not over, as far as its trackers know."""

    def __init__(self, path: Path) -> None:
        self._run = RunDir(path)
        self._views: dict[str, _RunView] = {}
        self._seen: tuple[int, int] | None = None

    def exists(self) -> bool:
        """Whether the folder is a run yet."""
        return self._run.info_file.exists()

    def tell(self, parents: dict[Link, State], owing: bool, verify: bool) -> bool:
        """Tells the trackers what is new; True once there is nothing more to come.

        Args:
            parents: The trackers that answer, each with its state of the study.
            owing: Whether others do not.
            verify: Whether to look for views that were deleted.
        """
        stamp = _size(self._run.records_file), _changed(self._run.result_file)
        if stamp == self._seen:
            return False
        result = self._run.result()
        end = result if result and result.status != "interrupted" else None
        told = [self._tell(link, parents[link], end, verify) for link in parents]
        complete = all(told) and not owing
        self._seen = stamp if complete else None
        return complete and end is not None

    def _tell(self, link: Link, parent: State, end: Result | None, verify: bool) -> bool:
        """A view that failed is dropped: the next try goes on from the folder's position."""
        view = self._views.pop(link.name, None) or _RunView(self._run, link)
        if not link.call(lambda tracker: view.update(tracker, parent, end, verify)):
            return False
        self._views[link.name] = view
        return True


class _Place:
    """What is mirrored under one lock: a study with all its trials or one of them, or a run."""

    def __init__(self, study: StudyDir | None, run: Path | None) -> None:
        self._study = study
        self._run = run
        self._path = study.path if study else run or Path()
        self._live: dict[str, _Watched] = {}
        self._over: set[str] = set()
        self._verify = False
        self.links: list[Link] = []
        self._study_views: list[_StudyView] = []

    @property
    def is_study(self) -> bool:
        """Whether it is a study with all its trials."""
        return self._run is None

    def tracking(self) -> dict[str, Options]:
        """The options of each tracker; those of a trial are its study's."""
        if self._study:
            return dict(self._study_info()["tracking"])
        return RunDir(self._path).info().tracking

    def connect(self, names: list[str], announce: Announce | None, verify: bool) -> None:
        """Sets up the trackers of these names."""
        self._verify = verify
        self.links = [
            Link(name, options, self._path, announce)
            for name, options in self.tracking().items()
            if name in names
        ]
        if self._study:
            self._study_views = [_StudyView(self._study, link) for link in self.links]

    def hold(self, holds: ExitStack) -> None:
        """Keeps other mirrors away.

        Raises:
            StudyLockedError: If there is one and it stays.
        """
        lock = Lock(self._path / "mirror" / "lock")
        if not lock.wait(_LOCK_PATIENCE):
            raise StudyLockedError(
                f"{self._path} is being mirrored by {lock.holder()}, which keeps its trackers "
                "up to date.\nTry again when that has ended."
            )
        holds.callback(lock.release)

    def look_again(self) -> None:
        """Makes the next turn look at every run and try every tracker."""
        self._over.clear()
        for link in self.links:
            link.try_now()

    def turn(self) -> None:
        """Tells everything that is new."""
        parents = self._open_study()
        owing = len(parents) < len(self.links)
        self._discover()
        for name, run in list(self._live.items()):
            if run.tell(parents, owing, self._verify):
                self._over.add(name)
                del self._live[name]
        self._close_study()
        self._rotate()

    def _open_study(self) -> dict[Link, State]:
        """The trackers that know of the study, each with its state of it."""
        if self._study is None:
            return {link: {} for link in self.links}
        info = self._study_info()
        for view in self._study_views:
            view.open(info)
        return {view.link: view.state for view in self._study_views if view.state is not None}

    def _close_study(self) -> None:
        for view in self._study_views:
            view.close(self._study_info())

    def _discover(self) -> None:
        for name in sorted(self._names() - self._over - self._live.keys()):
            run = _Watched(self._path / name)
            if run.exists():
                self._live[name] = run

    def _names(self) -> set[str]:
        """The paths of the runs below this place's own."""
        if self._run:
            return {os.path.relpath(self._run, self._path)}
        trials = self._path / "trials"
        return {f"trials/{name}" for name in os.listdir(trials)} if trials.exists() else set()

    def _rotate(self) -> None:
        """Lets another run be first, so that one that a tracker refuses does not hold up all."""
        if self._live and any(link.failure for link in self.links):
            first = next(iter(self._live))
            self._live[first] = self._live.pop(first)

    def _study_info(self) -> dict[str, Any]:
        assert self._study
        info: dict[str, Any] = json.loads(self._study.info_file.read_text())
        return info


def _connect(
    folder: Path, wanted: list[str] | None, announce: Announce | None = None, verify: bool = False
) -> list[_Place]:
    """The places in a folder, with the wanted trackers set up."""
    places = _find_places(folder.absolute())
    if announce and places[0].is_study:
        places = places[:1]
    known = sorted({name for place in places for name in place.tracking()})
    for name in wanted or []:
        if name not in known:
            raise ConfigError(
                f"{folder} has no tracker of this name. Received: {name!r}. "
                f"Expected: {', '.join(known) or 'none, it was run with tracking=none'}."
                f"{did_you_mean(name, known)}"
            )
    for place in places:
        place.connect(wanted or known, announce, verify)
    return places


def _find_places(folder: Path) -> list[_Place]:
    """A study comes first, then the runs that are no trials.

    Raises:
        StudyError: If there is neither.
    """
    if (folder / "run.json").exists():
        return [_place_of_run(folder)]
    places = [_Place(StudyDir(folder), None)] if (folder / "study.json").exists() else []
    places += [_place_of_run(file.parent) for file in sorted(folder.glob("runs/*/run.json"))]
    if not places:
        raise StudyError(
            f"{folder} holds no study and no runs: it has no study.json, run.json or runs/.\n"
            "Expected a folder such as outputs/mnist or outputs/mnist/trials/0007"
        )
    return places


def _place_of_run(path: Path) -> _Place:
    study = StudyDir(path.parent.parent)
    is_trial = RunDir(path).info().number is not None and study.info_file.exists()
    return _Place(study if is_trial else None, path)


def _input_stays_open(seconds: float) -> bool:
    """Waits a while for standard input to close."""
    readable, _, _ = select.select([0], [], [], seconds)
    return not readable or os.read(0, 4096) != b""


def _print_line(event: dict[str, Any]) -> None:
    print(json.dumps(event), flush=True)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _changed(path: Path) -> int:
    return path.stat().st_mtime_ns if path.exists() else 0
