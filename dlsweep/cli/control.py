"""The verbs that act on a sweep from any terminal: stop, pause, enqueue, extend.

They leave files in the folder, which the driver reads: see :mod:`dlsweep.folders.requests`.
"""

from __future__ import annotations

import argparse
import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dlsweep.errors import StudyError
from dlsweep.folders.lock import Lock
from dlsweep.folders.requests import Requests
from dlsweep.folders.rundir import UNFINISHED, RunDir, write_atomically
from dlsweep.folders.studydir import StudyDir
from dlsweep.folders.watch import Owner, Watch, is_locked
from dlsweep.results.follow import Follower
from dlsweep.security.printable import printable

#: Seconds between two looks, and seconds that a driver has for a request that needs no waiting.
_LOOK, _PATIENCE = 0.25, 10.0
#: The exit code after Ctrl-C.
_INTERRUPTED = 130
_LATER = "No driver has taken it yet: the next one does, and the sweep's command starts it."


def stop(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> int:
    """The verb ``stop``: stops a sweep, a trial or a single run, and waits until it has stopped."""
    parser.add_argument("folder", type=Path, help="a study's folder, a trial's, or a single run's")
    parser.add_argument("--now", action="store_true", help="kill what runs, without saving")
    options = parser.parse_args(arguments)
    run = RunDir(options.folder.resolve())
    try:
        if not run.info_file.exists():
            return _stop_study(StudyDir(run.path), options.now)
        run.refuse_links()
        if run.info().number is None:
            return _stop_run(run, options.now)
        return _stop_trial(run, options.now)
    except KeyboardInterrupt:
        print("\nThe request stands; nothing waits for it any more.")
        return _INTERRUPTED


def pause(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> int:
    """The verb ``pause``: no trial starts until ``resume``; running trials go on."""
    parser.add_argument("folder", type=Path, help="a study's folder, as outputs/mnist")
    folder = parser.parse_args(arguments).folder
    study = StudyDir(folder)
    study.description()
    write_atomically(study.paused_file, "")
    _say(f"No trial starts until  python -m dlsweep resume {_quoted(folder)}")
    return 0


def resume_study(folder: Path) -> int:
    """The verb ``resume`` of a study: trials start again."""
    study = StudyDir(folder)
    study.description()
    was_paused = study.paused_file.exists()
    study.paused_file.unlink(missing_ok=True)
    said = "goes on" if was_paused else "is not paused"
    if not Watch(study).wait():
        said = "is not paused any more" if was_paused else said
        _say(f"{folder} {said}. No driver runs: the command of the sweep starts one.")
    else:
        _say(f"{folder} {said}.")
    return 0


def enqueue(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> int:
    """The verb ``enqueue``: a point that the sweep tries next, as Optuna's ``enqueue_trial``."""
    parser.add_argument("folder", type=Path, help="a study's folder, as outputs/mnist")
    parser.add_argument(
        "point",
        nargs="+",
        help="values of swept keys, as training.optimizer.lr=0.01; the sampler suggests the others",
    )
    options = parser.parse_args(arguments)
    from dlsweep.sweep.points import read_point  # imports Optuna, which takes a while

    study, record = _extensible(options.folder, "There is no other point to enqueue.")
    point = read_point(options.point, record.get("space") or {})
    if _is_taken(study, Requests(study.requests).leave("enqueue", params=point)):
        _say(f"{options.folder}: the point is enqueued; it is tried next.")
    else:
        _say(f"{options.folder}: the point is recorded. {_LATER}")
    total = record["n_trials"]
    if total is not None and len(list(study.trials.glob("[0-9]*"))) >= total:
        more = f"python -m dlsweep extend {_quoted(options.folder)} --n-trials {total + 1}"
        _say(f"All {total} trials have begun. To run it, too:  {more}")
    return 0


def extend(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> int:
    """The verb ``extend``: raises a study's ``n_trials``, also while it runs."""
    parser.add_argument("folder", type=Path, help="a study's folder, as outputs/mnist")
    parser.add_argument("--n-trials", type=int, required=True, help="the number of trials in all")
    options = parser.parse_args(arguments)
    study, record = _extensible(options.folder, "There are no more trials to run.")
    total = record["n_trials"]
    if total is None:
        raise StudyError(f"{options.folder} has no n_trials: it ends by its timeout.")
    if options.n_trials <= total:
        raise StudyError(
            f"--n-trials: Received {options.n_trials}. Expected more than {total}, "
            f"which {options.folder} has already."
        )
    if _is_taken(study, Requests(study.requests).leave("extend", n_trials=options.n_trials)):
        _say(f"{options.folder} has {study.description()['n_trials']} trials from now on.")
    else:
        _say(f"{options.folder} will have {options.n_trials} trials. {_LATER}")
    return 0


def _extensible(folder: Path, why: str) -> tuple[StudyDir, dict[str, Any]]:
    """Returns a study and its description, unless it tries each point of its space once."""
    study = StudyDir(folder)
    record = {"n_trials": None, **study.description()}
    if record.get("exhaustive"):
        raise StudyError(f"{folder} tries every point of its space once. {why}")
    if not isinstance(record["n_trials"], int | None):
        raise StudyError(f"{study.info_file} is damaged: n_trials is {record['n_trials']!r}.")
    return study, record


def _is_taken(study: StudyDir, request: Path) -> bool:
    """Waits until the driver has done a request; returns whether it has, in time."""
    watch, deadline = Watch(study), time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        if not request.exists():
            return True
        if watch.is_alive() is False:
            return not request.exists()
        time.sleep(_LOOK)
    return False


def _stop_study(study: StudyDir, now: bool) -> int:
    if not study.info_file.exists():
        raise StudyError(
            f"{study.path} is no study folder and no run folder: it has neither study.json nor "
            "run.json.\nExpected a folder such as outputs/mnist or outputs/mnist/trials/0007"
        )
    watch, follower = Watch(study), Follower(study, Watch(study))
    owner = _driver(watch)
    requests = Requests(study.requests)
    request = requests.leave("kill" if now else "stop", driver=owner.id)
    _say(f"{owner.holder} is asked to {'kill its trials' if now else 'stop'}.")
    shown: list[str] = []
    while watch.is_alive() is not False and (watch.owner is None or watch.owner.id == owner.id):
        follower.look(is_alive=True)
        names = [seen.folder.path.name for seen in follower.running]
        if names and names != shown:
            _say(f"Waiting for {', '.join(names)} to {'end' if now else 'save and end'} …")
        shown = names
        time.sleep(_LOOK)
    was_pending = request.exists()
    request.unlink(missing_ok=True)
    if watch.owner and watch.owner.id == owner.id:
        raise StudyError(f"{owner.holder} has died. The sweep's command resumes it.")
    follower.look(is_alive=False)
    states = ", ".join(f"{count} {state}" for state, count in follower.states().most_common())
    if was_pending:
        _say(f"{study.path} has ended by itself: {states}.")
    else:
        _say(f"{study.path} has stopped: {states or 'no trial'}. The same command resumes it.")
    return 0


def _driver(watch: Watch) -> Owner:
    """Returns the driver that is alive, once it takes requests.

    Raises:
        StudyError: If there is none.
    """
    deadline = time.monotonic() + _PATIENCE
    while watch.wait():
        if watch.owner and watch.owner.id:
            return watch.owner
        if time.monotonic() > deadline:
            who = watch.owner.holder if watch.owner else "the process that has locked it"
            raise StudyError(f"{watch.folder.path}: {who} takes no requests. Press Ctrl-C there.")
        time.sleep(_LOOK)
    died = f": {watch.owner.holder} has died" if watch.owner else ""
    raise StudyError(f"{watch.folder.path} is not running{died}. There is nothing to stop.")


def _stop_trial(run: RunDir, now: bool) -> int:
    study = StudyDir(run.path.parents[1])
    study.description()
    name = run.path.name
    if run.path.parent != study.trials or not (name.isascii() and name.isdigit()):
        raise StudyError(f"{run.path} is not where a trial of {study.path} is.")
    _refuse_ended(run)
    run.request_stop("stopped")
    watch = Watch(study)
    follower = Follower(study, watch)
    follower.look(watch.wait())
    if follower.trials[name].status != "running":
        _say(f"{name} does not run. It is stopped: no driver starts it again.")
        return 0
    if now and watch.owner:
        requests = Requests(study.requests)
        requests.leave("kill_trial", driver=watch.owner.id, number=int(name))
    _say(f"Waiting for {name} to {'end' if now else 'save and end'} …")
    while watch.is_alive() is not False:
        result = run.result()
        if result and result.status not in UNFINISHED:
            _say(f"{name} is {result.status}.")
            return 0
        if run.stop_reason() in (None, "interrupted"):  # a new attempt, or the driver ends
            run.request_stop("stopped")
        time.sleep(_LOOK)
    _say(f"The driver has ended. {name} is stopped: no driver starts it again.")
    return 0


def _stop_run(run: RunDir, now: bool) -> int:
    """Stops a single run, whose process alone reads its folder."""
    _refuse_ended(run)
    lock = Lock(run.lock_file)
    was_trained = run.lock_file.exists()
    is_running = is_locked(run.lock_file)
    if not is_running and (not was_trained or lock.is_held_here):
        raise StudyError(f"{run.path} is not running. There is nothing to stop.")
    if now and not (is_running and lock.is_held_here):
        raise StudyError(f"It is trained by {lock.holder()}. Only that host can kill it.")
    run.request_stop("interrupted")
    if now:
        lock.kill_holder()
    _say(f"Waiting for {run.path} to {'end' if now else 'save and end'} …")
    while (result := run.result()) is None:
        time.sleep(_LOOK)
    _say(f"{run.path.name} is {result.status}.")
    if result.status in UNFINISHED:
        _say(f"Resume it:  python -m dlsweep resume {_quoted(run.path)}")
    return 0


def _refuse_ended(run: RunDir) -> None:
    result = run.result()
    if result and result.status not in UNFINISHED:
        raise StudyError(f"{run.path} is {result.status} already. There is nothing to stop.")


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))


def _say(text: str) -> None:
    print(printable(text), flush=True)
