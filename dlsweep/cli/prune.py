"""The verb ``prune``: removes what ended trials of a study no longer need of their checkpoints."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from rich.table import Table

from dlsweep.drive.progress import make_console, size
from dlsweep.errors import ConfigError, StudyLockedError
from dlsweep.folders.lease import locked
from dlsweep.folders.lock import Lock
from dlsweep.folders.rundir import refuse_link
from dlsweep.folders.studydir import StudyDir
from dlsweep.results.tables import Finished, state_of, weights_stay
from dlsweep.run.keeping import Keep, Surplus, read_keep, surplus
from dlsweep.security.printable import printable
from dlsweep.trackers.views import unsynced


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of ``prune``."""
    parser.add_argument("folder", type=Path, help="a study's folder, as outputs/mnist")
    parser.add_argument(
        "--keep",
        help="best: the best weights of each completed trial; a number: those of so many of the "
        "best trials; default: the study's own hydra.sweeper.keep, or best",
    )
    parser.add_argument("--yes", action="store_true", help="remove it; else it is only shown")


@dataclass
class _Found:
    """What is found in a study.

    Attributes:
        goes: What goes of each trial, and the trial's state.
        behind: The trackers that lack trials, and how many trials these are.
        trained: The trials that somebody is training.
        size: How many bytes go.
    """

    goes: list[tuple[Surplus, str]] = field(default_factory=list)
    behind: dict[str, set[str]] = field(default_factory=dict)
    trained: list[str] = field(default_factory=list)
    size: int = 0


def run(arguments: argparse.Namespace) -> int:
    """Shows what would go, or removes it; returns the exit code.

    Raises:
        StudyError: If the folder is not a study's.
        StudyLockedError: If its sweep is running.
        ConfigError: If the policy is not valid.
    """
    folder = StudyDir(arguments.folder)
    record = folder.record()
    keep = _policy(arguments.keep, record.get("keep", "all"))
    try:
        with locked(folder):
            found = _find(folder, keep)
            _show(found)
            if arguments.yes:
                for each, _ in found.goes:
                    each.remove(keep)
    except StudyLockedError as error:
        raise StudyLockedError(
            f"{str(error).partition(chr(10))[0]}\nA sweep that runs applies hydra.sweeper.keep "
            "itself; prune the study when it has ended."
        ) from None
    for line in _summary(found, folder, keep, arguments.yes):
        make_console().print(line, soft_wrap=True)
    return int(bool(found.behind or found.trained))


def _policy(asked: str | None, begun: object) -> Keep:
    keep = read_keep("--keep", asked or ("best" if begun == "all" else begun))
    if keep == "all":
        raise ConfigError(
            "--keep: Received 'all', which removes nothing. Expected best or a number."
        )
    return keep


def _find(folder: StudyDir, keep: Keep) -> _Found:
    refuse_link(folder.trials)
    study, found = Finished(folder), _Found()
    tracking = study.record["tracking"]
    stays = weights_stay(folder, study.trials, study.record["directions"], keep)
    for trial in study.trials:
        run = folder.trial(trial.number)
        if trial.number not in stays or not run.info_file.exists():
            continue
        each = surplus(run, stays[trial.number])
        if each.is_nothing:
            continue
        lock = Lock(run.lock_file)
        if not lock.acquire():
            found.trained.append(run.path.name)
            continue
        lock.release()
        behind = unsynced(run, tracking)
        for name in behind:
            found.behind.setdefault(name, set()).add(run.path.name)
        if not behind:
            found.goes.append((each, state_of(trial)))
            found.size += each.size
    return found


def _show(found: _Found) -> None:
    if not found.goes:
        return
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for title in ("trial", "state", "goes", "stays"):
        table.add_column(title)
    table.add_column("frees", justify="right")
    for each, state in found.goes:
        stays = each.left.name if each.left else "nothing"
        if each.files:
            stays = f"the weights of {stays}"
        table.add_row(
            each.run.path.name, printable(state), ", ".join(_parts(each)), stays, size(each.size)
        )
    make_console().print(table)


def _parts(each: Surplus) -> Iterator[str]:
    count = len(each.folders)
    if count:
        yield f"{count} checkpoint{'s' * (count != 1)}"
    if each.files:
        yield "the state of the optimizer"


def _summary(found: _Found, folder: StudyDir, keep: Keep, done: bool) -> Iterator[str]:
    shown = shlex.quote(str(folder.path))
    for name, trials in sorted(found.behind.items()):
        yield f"{_trials(len(trials))} not synced to {name} yet and {_keeps(len(trials))}."
        yield f"Sync first:  python -m dlsweep sync {shown} {name}"
    for name in found.trained:
        yield f"{name} is being trained, and keeps everything."
    freed = size(found.size)
    if not found.goes:
        yield f"With keep={keep}, nothing goes."
    elif done:
        yield f"Removed: {freed} are freed."
    else:
        yield f"Nothing is removed yet. To free {freed}, type"
        yield f"  python -m dlsweep prune {shown} --keep {keep} --yes"


def _trials(count: int) -> str:
    return f"{count} ended trial{'s are' if count != 1 else ' is'}"


def _keeps(count: int) -> str:
    return "keep everything" if count != 1 else "keeps everything"
