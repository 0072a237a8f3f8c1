"""Gives a run the checkpoint of another one: verified, and in place at one moment.

Under population based training a trial goes on from another trial's checkpoint. Its files are
linked (copied, where the file system has no links) to ``inherited/`` in the run folder, and
verified there, while the donor trains on and may remove its own. Nothing of it is executed. The
sweep then stores its decision, and the run's next attempt starts from the copy.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dlsweep.errors import StudyError
from dlsweep.folders.attempt import Attempt
from dlsweep.folders.lineage import Inheritance
from dlsweep.folders.reading import read_json
from dlsweep.folders.rundir import RunDir, refuse_link, write_atomically
from dlsweep.run.checkpoint import Checkpoint, open_manifest, remove
from dlsweep.run.manifest import INHERITED, MANIFEST, damage, sync

_FOLDER = "inherited"
#: The end of an epoch; a checkpoint within one has no metrics.
_END = re.compile(r"step-\d+\+*")
#: What reading a checkpoint raises that is damaged, or that its run removes meanwhile.
_UNREADABLE = (OSError, StudyError, ValueError, KeyError, TypeError, AttributeError)


def newest(donor: RunDir, least: int, most: int) -> Checkpoint | None:
    """Returns the newest checkpoint of a run that another one can go on from.

    Args:
        donor: The run.
        least: The lowest step.
        most: The highest step.
    """
    refuse_link(donor.checkpoints)
    attempt = Attempt.current(donor)
    run = donor.info().id
    for path in sorted(donor.checkpoints.glob("step-*"), reverse=True):
        if not _END.fullmatch(path.name):
            continue
        try:
            manifest = _manifest(path)
            is_own = manifest["run"] == run
            found = open_manifest(path)
            is_valid = is_own and attempt.adopts(path.name, int(manifest["attempt"]))
        except _UNREADABLE:
            continue
        if is_valid and found.is_whole and least <= found.step <= most:
            return found
    return None


def stage(checkpoint: Checkpoint, run: RunDir, entry: Inheritance) -> bool:
    """Copies a checkpoint of another run aside, and verifies the copy.

    Args:
        checkpoint: The checkpoint.
        run: The run that is to go on from it.
        entry: What the run's lineage will say.

    Returns:
        Whether the copy is whole. It is not if the checkpoint is damaged, or was removed meanwhile.
    """
    aside = run.path / _FOLDER
    discard(run)
    try:
        manifest = _manifest(checkpoint.path)
        files = list(manifest["files"])
        if any(Path(name).name != name for name in files):
            return False
        aside.mkdir()
        for name in files:
            _copy(checkpoint.path / name, aside / name)
        problem = damage(aside, manifest["files"])
    except _UNREADABLE:
        problem = "it cannot be read"
    if problem:
        discard(run)
        return False
    about = {"run": run.info().id, "attempt": 0, "records": 0, INHERITED: asdict(entry)}
    write_atomically(aside / MANIFEST, json.dumps({**manifest, **about}, indent=1))
    for path in (*(aside / name for name in files), aside, run.path):
        sync(path)
    return True


def take(run: RunDir, lineage: Sequence[Inheritance]) -> None:
    """Puts a staged checkpoint in the place of the run's own ones, if it is the one decided on.

    It can be killed at any moment and done again.

    Args:
        run: The run; no process trains it.
        lineage: Its lineage, as decided.
    """
    aside = run.path / _FOLDER
    if not aside.exists():
        return
    refuse_link(aside)
    refuse_link(run.checkpoints)
    manifest = _manifest(aside)
    if manifest.get(INHERITED) != json.loads(json.dumps(asdict(lineage[-1]))):
        discard(run)  # a driver was killed before it had stored its decision
        return
    for own in run.checkpoints.glob("step-*"):
        remove(own)
    run.checkpoints.mkdir(exist_ok=True)
    aside.rename(run.checkpoints / f"step-{int(manifest['step']):08d}")
    sync(run.checkpoints)


def discard(run: RunDir) -> None:
    """Removes a staged checkpoint."""
    aside = run.path / _FOLDER
    refuse_link(aside)
    if aside.exists():
        shutil.rmtree(aside)


def _manifest(checkpoint: Path) -> Mapping[str, Any]:
    found: Mapping[str, Any] = read_json(checkpoint / MANIFEST)
    return found


def _copy(file: Path, target: Path) -> None:
    """Links a file, which no run ever changes, or copies it; never follows a symbolic link."""
    if not file.is_file() or file.is_symlink():
        raise FileNotFoundError(file)
    try:
        os.link(file, target, follow_symlinks=False)
    except PermissionError:
        shutil.copyfile(file, target, follow_symlinks=False)
    except OSError as error:
        if not file.exists():
            raise FileNotFoundError(file) from error
        shutil.copyfile(file, target, follow_symlinks=False)
