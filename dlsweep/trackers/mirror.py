"""The mirror: syncs run folders to trackers, every record exactly once, also after kills.

The position of each tracker is stored in the run folder, in ``mirror/<tracker>.json``, together
with the tracker's own state. So a tracker that was down, or was added later, can be synced at any
time, and a view that was deleted is rebuilt.

During a sweep, the mirror is a process of its own (:func:`follow_folder`), so a slow tracker does
not slow down training. Its standard input is a pipe from the driver. When the pipe closes, the
driver has ended or died; the mirror then syncs the rest and exits.
"""

from __future__ import annotations

import json
import math
import os
import select
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, redirect_stdout, suppress
from pathlib import Path
from typing import Any

from dlsweep.errors import TrackerError
from dlsweep.folders import origin
from dlsweep.machine.imports import no_garbage
from dlsweep.trackers.link import Options
from dlsweep.trackers.places import Place, connect, find_places, links_of

#: Seconds between two scans of the folders: at least, and at most.
_LOOK_EVERY, _LONGEST_LOOK = 2.0, 10.0
#: The same before the first run exists.
_FIRST_LOOK_EVERY = 0.2
#: The share of a core that the mirror may use while runs train; scans are spaced accordingly.
_SHARE = 0.01
#: Seconds to wait for another mirror of the same folder.
_LOCK_PATIENCE = 15.0
#: Seconds before each of the last retries, once the driver has ended.
_LAST_WAITS = (0.0, 1.0, 2.0)
_NICENESS = 10


def sync(
    folder: str | os.PathLike[str],
    trackers: list[str] | None = None,
    added: Mapping[str, Options] | None = None,
) -> dict[str, int]:
    """Syncs the trackers of a folder, and rebuilds views that were deleted.

    Args:
        folder: A study folder, a run folder, or a folder that contains ``runs/``.
        trackers: Their names in the config; None means all trackers of the runs.
        added: The options of new trackers, or new options of trackers.

    Returns:
        The number of records synced to each tracker.

    Raises:
        StudyError: If the folder is none of these.
        StudyLockedError: If another mirror keeps it locked.
        ConfigError: If the runs have no tracker of that name.
        TrackerError: If a tracker does not work; the others are synced then.
    """
    places = connect(Path(folder), trackers, added, verify=True)
    with ExitStack() as locks:
        for place in places:
            place.lock(locks, _LOCK_PATIENCE)
            place.turn()
        _close(places)
    links = links_of(places)
    if failures := [f"{link.name}: {link.failure}" for link in links if link.failure]:
        raise TrackerError("\n".join(failures))
    synced: Counter[str] = Counter()
    for link in links:
        synced[link.name] += link.synced
    return dict(synced)


def differences(
    folder: str | os.PathLike[str],
    trackers: list[str] | None = None,
    added: Mapping[str, Options] | None = None,
    repair: bool = False,
) -> Iterator[str]:
    """Compares run folders with their trackers, record by record.

    Args:
        folder: As for :func:`sync`.
        trackers: As for :func:`sync`.
        added: As for :func:`sync`.
        repair: Whether to sync a run that differs again, from its start.

    Yields:
        A sentence for each difference, whether it was repaired or not.

    Raises:
        StudyError, StudyLockedError, ConfigError: As :func:`sync`.
        TrackerError: If a tracker does not work.
    """
    places = connect(Path(folder), trackers, added)
    with ExitStack() as locks:
        for place in places:
            place.lock(locks, _LOCK_PATIENCE)
            yield from place.differences(repair)
        _close(places)


def follow_folder(
    folder: str | os.PathLike[str],
    trackers: list[str] | None = None,
    added: Mapping[str, Options] | None = None,
) -> bool:
    """Syncs a study or a run until standard input closes, and then the rest.

    Prints one line of JSON for each tracker to standard output: that it works and how to view it
    (``{"tracker", "ready", "view"}``), or why not (``{"tracker", "error"}``). A later failure is
    printed to standard error, and the tracker is retried after 1 to 30 seconds. If a killed driver
    left another mirror of the folder, this one waits for it to end first. The arguments are those
    of :func:`sync`.

    Returns:
        Whether every tracker is synced at the end.

    Raises:
        StudyError, ConfigError: As :func:`sync`.
    """
    places = connect(Path(folder), trackers, added, announce=_print_line)
    with ExitStack() as locks:
        for place in places:
            place.lock(locks, patience=math.inf)
        locks.enter_context(redirect_stdout(sys.stderr))  # trackers may print, too
        if not any(place.has_run() for place in places):
            with no_garbage():
                for link in links_of(places):
                    link.prepare()
        while not any(place.has_run() for place in places):
            if not _input_stays_open(_FIRST_LOOK_EVERY):
                return True  # no run was started, so there is nothing to sync
        for place in places:
            origin.record(place.path)
        following = True
        while following:
            began = time.process_time()
            for place in places:
                place.turn()
            pause = (time.process_time() - began) / _SHARE
            following = _input_stays_open(min(max(_LOOK_EVERY, pause), _LONGEST_LOOK))
        _sync_rest(places)
        _close(places)
    behind = [link for link in links_of(places) if link.failure]
    for link in behind:
        print(f"{link.name} is not synced. {link.failure}", file=sys.stderr)
        print(f"Sync it:  python -m dlsweep sync {folder}", file=sys.stderr)
    return not behind


def trackers_of(folder: str | os.PathLike[str]) -> set[str]:
    """Returns the names of the trackers that a folder's runs have.

    Raises:
        StudyError: If the folder is no study, no run, and contains no ``runs/``.
    """
    return {name for place in find_places(Path(folder).absolute()) for name in place.tracking()}


def main(
    folder: str, trackers: list[str], follow: bool, added: Mapping[str, Options] | None = None
) -> int:
    """The verb ``sync``: syncs a folder once, or until standard input closes.

    Args:
        folder: A study folder, a run folder, or a folder that contains ``runs/``.
        trackers: Names of trackers; empty means all.
        added: As for :func:`sync`.
        follow: Whether to continue until standard input closes, ignoring Ctrl-C.

    Returns:
        The exit code: 0 if every tracker is synced, else 1.
    """
    if follow:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        os.nice(_NICENESS)
        return 0 if follow_folder(folder, trackers or None, added) else 1
    for name, synced in sync(folder, trackers or None, added).items():
        print(f"{name}: {synced} new records")
    return 0


def _close(places: list[Place]) -> None:
    for link in links_of(places):
        link.close()


def _sync_rest(places: list[Place]) -> None:
    """Syncs everything once more, with retries if a tracker fails."""
    for wait in _LAST_WAITS:
        time.sleep(wait)
        for place in places:
            place.rescan()
            place.turn()
        if not any(link.failure for link in links_of(places)):
            return


def _input_stays_open(seconds: float) -> bool:
    """Waits that many seconds for standard input to close; returns whether it is still open."""
    readable, _, _ = select.select([0], [], [], seconds)
    return not readable or os.read(0, 4096) != b""


def _print_line(event: dict[str, Any]) -> None:
    with suppress(BrokenPipeError):  # its driver has died; the trackers are synced
        print(json.dumps(event), file=sys.__stdout__, flush=True)
