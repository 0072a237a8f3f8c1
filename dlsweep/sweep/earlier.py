"""Reads the trials of earlier studies that start a sampler warm: ``hydra.sweeper.warm_start``.

An earlier study may come from anybody: its trials are parameters and numbers, and nothing in it is
called. A study copies them into its own folder, so that it resumes the same whatever happens to the
earlier one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from dlsweep.errors import ConfigError, StudyError
from dlsweep.folders.reading import read_json
from dlsweep.folders.rundir import write_atomically
from dlsweep.folders.studydir import StudyDir
from dlsweep.results.tables import Finished, point_of
from dlsweep.security.printable import printable

_KEY = "hydra.sweeper.warm_start"


@dataclass(frozen=True)
class EarlierTrial:
    """A trial of an earlier study.

    Attributes:
        params: Its parameters, by dotted key or group.
        values: The value of each objective; None for a pruned trial.
        last: The last step of a pruned trial and its value; None if it reported none.
        infeasible: Whether its point violated a constraint, as by running out of memory.
    """

    params: dict[str, Any]
    values: list[float] | None
    last: list[float] | None
    infeasible: bool


@dataclass(frozen=True)
class EarlierStudy:
    """The completed and pruned trials of an earlier study.

    Attributes:
        folder: Its folder, as the command names it.
        trials: Its trials, by number.
        failed: The number of its failed trials, which no sampler reads.
    """

    folder: str
    trials: list[EarlierTrial]
    failed: int


def read(
    named: Any, folder: StudyDir, objective: Sequence[str], directions: Sequence[str]
) -> list[EarlierStudy]:
    """Reads the earlier studies that a command names, or the study's own copy of them.

    Args:
        named: The value of ``hydra.sweeper.warm_start``: a folder or a list of folders.
        folder: The folder of the study that is started warm.
        objective: Its objectives.
        directions: Their directions.

    Raises:
        ConfigError: If a folder is not a text, is twice in the list or is the study's own, or if
            its study has another objective or no completed trial.
        StudyError: If a folder has no study, or is damaged.
    """
    folders = [named] if isinstance(named, str) else named
    if not (isinstance(folders, list) and all(isinstance(one, str) for one in folders)):
        raise ConfigError(
            f"{_KEY}: Received {named!r}. Expected folders of studies, such as [outputs/last_week]"
        )
    if folders and (copied := _copied(folders, folder, len(objective))):
        return copied
    paths = [Path(one).expanduser().resolve() for one in folders]
    for one, path in zip(folders, paths, strict=True):
        if path == folder.path.resolve():
            raise ConfigError(
                f"{_KEY}: Received {one}, the folder of this study itself, which reads its own "
                "trials anyway.\nExpected another study, or another hydra.sweeper.study_name."
            )
        if paths.count(path) > 1:
            raise ConfigError(f"{_KEY}: Received {one} twice. Expected each study once.")
    return [_read(one, objective, directions) for one in folders]


def store(studies: Sequence[EarlierStudy], folder: StudyDir) -> None:
    """Copies the trials of earlier studies into the folder of the study that they start warm."""
    if studies:
        record = {"studies": [asdict(one) for one in studies]}
        write_atomically(folder.warm_start, json.dumps(record))


def _read(folder: str, objective: Sequence[str], directions: Sequence[str]) -> EarlierStudy:
    try:
        study = Finished(StudyDir(Path(folder).expanduser()))
    except (SQLAlchemyError, ValueError, KeyError, TypeError) as error:  # rows of anybody
        raise StudyError(f"The database in {folder} cannot be read: {error}") from None
    theirs = [str(one) for one in study.record["directions"]]
    if theirs != [one.name.lower() for one in study.study.directions]:
        raise StudyError(f"{study.folder.info_file} is damaged: the database has other directions.")
    if (study.objective, theirs) != (list(objective), list(directions)):
        raise ConfigError(
            f"{_KEY}: {folder} is to {printable(_goal(study.objective, theirs))}, and this study "
            f"is to {_goal(objective, directions)}.\nTheir values cannot be compared. Expected a "
            "study with the same objective and direction."
        )
    kept = [one for trial in study.trials if (one := _earlier_trial(trial))]
    if not any(one.values for one in kept):
        raise ConfigError(
            f"{_KEY}: {folder} has no completed trial, so a sampler learns nothing from it.\n"
            "Expected a study with completed trials."
        )
    failed = sum(trial.state is TrialState.FAIL for trial in study.trials)
    return EarlierStudy(folder, kept, failed)


def _earlier_trial(trial: FrozenTrial) -> EarlierTrial | None:
    """Returns what a sampler learns from a trial; None if that is nothing."""
    params = point_of(trial)
    infeasible = any(value > 0 for value in trial.constraints.values())
    if trial.state is TrialState.COMPLETE and all(map(math.isfinite, trial.values)):
        return EarlierTrial(params, None if infeasible else trial.values, None, infeasible)
    if trial.state is not TrialState.PRUNED:
        return None
    last = max(trial.intermediate_values.items(), default=None)
    return EarlierTrial(params, None, list(last) if last else None, infeasible)


def _copied(folders: list[str], folder: StudyDir, objectives: int) -> list[EarlierStudy]:
    """Returns a study's copy of these folders' trials; empty if it has none of them."""
    if not folder.warm_start.exists():
        return []
    try:
        studies = [_study(entry, objectives) for entry in read_json(folder.warm_start)["studies"]]
    except (TypeError, KeyError, ValueError) as error:
        raise StudyError(f"{folder.warm_start} is damaged: {error!r}") from None
    return studies if [one.folder for one in studies] == folders else []


def _study(entry: dict[str, Any], objectives: int) -> EarlierStudy:
    trials = [EarlierTrial(**one) for one in entry["trials"]]
    for one in trials:
        if one.values is not None and not (
            len(one.values) == objectives and all(map(math.isfinite, one.values))
        ):
            raise ValueError(f"the values {one.values}")
        if one.last is not None and len([float(number) for number in one.last]) != 2:
            raise ValueError(f"the last record {one.last}")
        if not isinstance(one.params, dict):
            raise TypeError(f"the parameters {one.params}")
    return EarlierStudy(str(entry["folder"]), trials, int(entry["failed"]))


def _goal(objective: Sequence[str], directions: Sequence[str]) -> str:
    pairs = zip(directions, objective, strict=True)
    return " and ".join(f"{direction} {name!r}" for direction, name in pairs)
