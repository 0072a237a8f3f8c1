"""A study or run that is mirrored under one lock, and its unfinished runs."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from dlsweep.errors import ConfigError, StudyError, StudyLockedError, TrackerError, did_you_mean
from dlsweep.folders.lock import Lock
from dlsweep.folders.rundir import UNFINISHED, Result, RunDir
from dlsweep.folders.studydir import StudyDir
from dlsweep.security import addresses
from dlsweep.trackers.base import State
from dlsweep.trackers.link import Announce, Link, Options
from dlsweep.trackers.views import RunView, StudyView


def find_places(folder: Path) -> list[Place]:
    """Returns the study of a folder first, then its single runs.

    Raises:
        StudyError: If there is neither.
    """
    if (folder / "run.json").exists():
        return [_place_of_run(folder)]
    places = [Place(StudyDir(folder), None)] if (folder / "study.json").exists() else []
    places += [_place_of_run(file.parent) for file in sorted(folder.glob("runs/*/run.json"))]
    if not places:
        raise StudyError(
            f"{folder} contains no study and no runs: it has no study.json, run.json or runs/.\n"
            "Expected a folder such as outputs/mnist or outputs/mnist/trials/0007"
        )
    return places


def _place_of_run(path: Path) -> Place:
    study = StudyDir(path.parent.parent)
    is_trial = RunDir(path).info().number is not None and study.info_file.exists()
    return Place(study if is_trial else None, path)


def connect(
    folder: Path,
    wanted: list[str] | None,
    added: Mapping[str, Options] | None = None,
    announce: Announce | None = None,
    verify: bool = False,
) -> list[Place]:
    """Returns the places in a folder, connected to the requested trackers."""
    added = added or {}
    places = find_places(folder.absolute())
    if announce and places[0].is_study:
        places = places[:1]
    known = sorted({name for place in places for name in place.tracking()} | {*added})
    for name in wanted or []:
        if name not in known:
            raise ConfigError(
                f"{folder} has no tracker of this name. Received: {name!r}. "
                f"Expected: {', '.join(known) or 'none, it was run with tracking=none'}."
                f"{did_you_mean(name, known)}"
            )
    links: dict[str, Link] = {}
    for place in places:
        options = {**place.tracking(), **added}
        chosen = {name: options[name] for name in wanted or known if name in options}
        if not announce:  # else a driver's own command has named the addresses
            believed = {name: one for name, one in chosen.items() if name not in added}
            addresses.refuse_unknown({"tracking": believed}, place.path)
            addresses.remember({"tracking": added}, place.path)
        place.connect(chosen, links, announce, verify)
    return places


def links_of(places: list[Place]) -> list[Link]:
    """Returns the trackers of these places, each once."""
    return list(dict.fromkeys(link for place in places for link in place.links))


class Place:
    """What is mirrored under one lock: a study with its trials, one trial, or a single run."""

    def __init__(self, study: StudyDir | None, run: Path | None) -> None:
        self._study = study
        self._run = run
        self.path = study.path if study else run or Path()
        self._live: dict[str, _Watched] = {}
        self._over: set[str] = set()
        self._verify = False
        self.links: list[Link] = []
        self._study_views: list[StudyView] = []

    @property
    def is_study(self) -> bool:
        """Whether it is a study with all its trials."""
        return self._run is None

    def tracking(self) -> dict[str, Options]:
        """Returns the options of each tracker; a trial has those of its study."""
        if self._study:
            return dict(self._study_info()["tracking"])
        return RunDir(self.path).info().tracking

    def connect(
        self,
        tracking: Mapping[str, Options],
        links: dict[str, Link],
        announce: Announce | None,
        verify: bool,
    ) -> None:
        """Connects trackers; places with equal options share one."""
        self._verify = verify
        for name, options in tracking.items():
            key = json.dumps([name, options], sort_keys=True)
            new = Link(name, options, self.path, announce)
            self.links.append(links.setdefault(key, new))
        if self._study:
            self._study_views = [StudyView(self._study, link) for link in self.links]

    def has_run(self) -> bool:
        """Whether any run has been started."""
        return any(_Watched(self.path / name).exists() for name in self._names())

    def lock(self, locks: ExitStack, patience: float) -> None:
        """Locks the place against other mirrors, once they have ended.

        Args:
            locks: Releases the locks.
            patience: Seconds to wait for other mirrors.

        Raises:
            StudyLockedError: If there is one and it stays.
        """
        for link in self.links:
            lock = Lock(self.path / "mirror" / f"{link.name}.lock")
            if not lock.wait(patience):
                raise StudyLockedError(
                    f"{self.path} is being mirrored to {link.name} by {lock.holder()}, which "
                    "syncs it.\nTry again when that has ended."
                )
            locks.callback(lock.release)

    def rescan(self) -> None:
        """Makes the next turn scan every run and retry every tracker."""
        self._over.clear()
        for link in self.links:
            link.retry_now()

    def turn(self) -> None:
        """Syncs everything that is new."""
        info = self._study_info()  # read before the runs: the study ends after its last run
        parents = self._open_study(info, self._verify)
        incomplete = len(parents) < len(self.links)
        self._discover()
        for name, run in list(self._live.items()):
            if run.sync(parents, incomplete, self._verify):
                self._over.add(name)
                del self._live[name]
        for view in self._study_views:
            view.close(info)
        self._rotate()

    def differences(self, repair: bool) -> Iterator[str]:
        """Yields a sentence for each difference between trackers and run folders."""
        info = self._study_info()
        parents = self._open_study(info, verify=True)
        for name in sorted(self._names()):
            run = RunDir(self.path / name)
            for link in self.links if run.info_file.exists() else ():
                found = self._differences(run, link, parents, repair)
                yield from (f"{run.path.name} in {link.name}: {one}" for one in found)
        for study in self._study_views if self.is_study else ():
            for one in self._study_differences(study, info, repair):
                yield f"the study in {study.link.name}: {one}"
        for study in self._study_views:
            study.close(info)
            if study.link.failure:
                raise TrackerError(f"{study.link.name}: {study.link.failure}")

    def _study_differences(self, view: StudyView, info: dict[str, Any], repair: bool) -> list[str]:
        found: list[str] = []
        view.link.call(lambda tracker: found.extend(view.differences(tracker, info)))
        if repair and found:
            view.rebuild()
        return found

    def _differences(
        self, run: RunDir, link: Link, parents: dict[Link, State], repair: bool
    ) -> list[str]:
        view, end, found = RunView(run, link), _end(run), list[str]()
        if link in parents:
            link.call(lambda tracker: found.extend(view.differences(tracker, parents[link], end)))
        if repair and found:
            link.call(lambda tracker: view.rebuild(tracker, parents[link], end))
        if link.failure:
            raise TrackerError(f"{link.name}: {link.failure}")
        return found

    def _open_study(self, info: dict[str, Any], verify: bool) -> dict[Link, State]:
        """Logs the study to its trackers; returns each tracker's state of it."""
        if self._study is None:
            return {link: {} for link in self.links}
        for view in self._study_views:
            view.open(info, verify)
        return {view.link: view.state for view in self._study_views if view.state is not None}

    def _discover(self) -> None:
        for name in sorted(self._names() - self._over - self._live.keys()):
            run = _Watched(self.path / name)
            if run.exists():
                self._live[name] = run

    def _names(self) -> set[str]:
        """Returns the names of the runs in this place."""
        if self._run:
            return {os.path.relpath(self._run, self.path)}
        trials = self.path / "trials"
        return {f"trials/{name}" for name in os.listdir(trials)} if trials.exists() else set()

    def _rotate(self) -> None:
        """Changes which run is first, so that a run that a tracker refuses does not block all."""
        if self._live and any(link.failure for link in self.links):
            first = next(iter(self._live))
            self._live[first] = self._live.pop(first)

    def _study_info(self) -> dict[str, Any]:
        return self._study.info() if self._study else {}


class _Watched:
    """A run that its trackers have not ended yet."""

    def __init__(self, path: Path) -> None:
        self._run = RunDir(path)
        self._views: dict[str, RunView] = {}
        self._seen: tuple[int, ...] | None = None

    def exists(self) -> bool:
        """Whether the folder is a run folder yet."""
        return self._run.info_file.exists()

    def sync(self, parents: dict[Link, State], incomplete: bool, verify: bool) -> bool:
        """Syncs what is new; returns True once the run has ended and everything is synced.

        Args:
            parents: The trackers that work, each with its state of the study.
            incomplete: Whether there are trackers that do not work.
            verify: Whether to check for deleted views.
        """
        files = (self._run.records_file, self._run.samples_file)
        stamp = *map(_size, files), _changed(self._run.result_file)
        if stamp == self._seen:
            return False
        end = _end(self._run)
        done = [self._sync(link, parents[link], end, verify) for link in parents]
        complete = all(done) and not incomplete
        self._seen = stamp if complete else None
        return complete and end is not None

    def _sync(self, link: Link, parent: State, end: Result | None, verify: bool) -> bool:
        """Syncs one tracker. After a failure, the next try starts from the stored position."""
        view = self._views.pop(link.name, None) or RunView(self._run, link)
        if not link.call(lambda tracker: view.update(tracker, parent, end, verify)):
            return False
        self._views[link.name] = view
        return True


def _end(run: RunDir) -> Result | None:
    """Returns a run's result; None for an interrupted run, which will be resumed."""
    result = run.result()
    return result if result and result.status not in UNFINISHED else None


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _changed(path: Path) -> int:
    return path.stat().st_mtime_ns if path.exists() else 0
