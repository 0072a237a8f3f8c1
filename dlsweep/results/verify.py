"""Compares a study, its run folders and its trackers; repairs trackers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from dlsweep.folders.rundir import COMPLETED, UNFINISHED
from dlsweep.folders.studydir import StudyDir
from dlsweep.results.tables import Finished, state_of
from dlsweep.security.printable import printable
from dlsweep.trackers import mirror
from dlsweep.trackers.link import Options


def main(
    folder: Path,
    trackers: list[str],
    repair: bool,
    added: Mapping[str, Options] | None = None,
    as_lines: bool = False,
) -> int:
    """The verb ``verify``: prints each difference, and the number of them.

    Args:
        folder: A study folder, a run folder, or a folder that contains ``runs/``.
        trackers: Names of trackers; empty means all.
        repair: Whether to sync what differs again.
        added: As for :func:`dlsweep.trackers.mirror.sync`.
        as_lines: Whether to print each difference as a line of JSON, and nothing else.

    Returns:
        The exit code: 0 if nothing differs, or everything was repaired.
    """
    study = StudyDir(folder)
    open_ends = list(study_differences(study)) if study.info_file.exists() else []
    for line in open_ends:
        _say(line, False, as_lines)
    found = 0
    for line in mirror.differences(folder, trackers or None, added, repair):
        _say(line, repair, as_lines)
        found += 1
    if not (found or open_ends or as_lines):
        print("The study, its folders and its trackers agree.")
    elif found and not (repair or as_lines):
        words = " ".join(map(str, (folder, *trackers)))
        print(f"Sync again:  python -m dlsweep verify {words} --repair")
    return int(bool(open_ends) or (bool(found) and not repair))


def _say(difference: str, is_repaired: bool, as_lines: bool) -> None:
    if as_lines:
        print(json.dumps({"difference": difference, "repaired": is_repaired}), flush=True)
    else:
        text = f"{difference}; synced again" if is_repaired else difference
        print(printable(text), flush=True)


def study_differences(folder: StudyDir) -> Iterator[str]:
    """Yields a sentence for each difference between Optuna's study and the run folders."""
    study = Finished(folder)
    known = {trial.number for trial in study.trials}
    for path in sorted(folder.trials.iterdir()):
        if int(path.name) not in known:
            yield f"{path.name} in the study: it is not there"
    for trial in study.trials:
        result = folder.trial(trial.number).result()
        state, name = state_of(trial), f"{trial.number:04d} in the study"
        status = result and result.status
        if not trial.state.is_finished():
            if status not in (None, *UNFINISHED):
                yield f"{name}: it is {state} there, and its folder says {status}; sweep on"
        elif state != status:
            yield f"{name}: it is {state} there, and its folder says {status or 'nothing'}"
        elif result and status in COMPLETED:
            returned = [result.metrics.get(metric) for metric in study.objective]
            if returned != list(trial.values or [None]):
                yield f"{name}: its values are {trial.values} there, and {returned} in its folder"
