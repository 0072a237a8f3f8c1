"""Finds the run to export, and reads its data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlsweep.data.base import Array, Data, Split, as_data, by_name
from dlsweep.errors import ExportError, StudyError
from dlsweep.folders.rundir import RunDir
from dlsweep.folders.studydir import StudyDir
from dlsweep.results.tables import Finished
from dlsweep.run.run import Run
from dlsweep.trainers.base import Trainer
from dlsweep.trainers.exporting import typed

#: The largest number of validation examples that are compared, and of training examples that
#: calibrate a quantization.
_MOST_COMPARED, _MOST_CALIBRATING = 2000, 500
#: What of the data an exported model depends on.
_FACTS = (
    "input_shape",
    "input_dtype",
    "classes",
    "mean",
    "std",
    "target_mean",
    "target_std",
    "schema",
    "class_names",
)


@dataclass(frozen=True)
class Examples:
    """The data of a run, for an export.

    Attributes:
        data: The data set, if it is in memory.
        calibrating: Some training inputs by name, as the exported model takes them.
        compared: Some validation inputs by name, likewise.
        targets: The targets of these.
        is_single: Whether the model takes one array instead of arrays by name.
        record: The record of the data that the run has stored.
    """

    data: Data | None
    calibrating: Mapping[str, Array]
    compared: Mapping[str, Array]
    targets: Array
    is_single: bool
    record: Mapping[str, Any]

    def model_inputs(self) -> Any:
        """Returns the compared inputs as the trained model takes them."""
        inputs = self.compared["inputs"] if self.is_single else dict(self.compared)
        return self.data.normalise(inputs) if self.data else inputs


def run_to_export(folder: Path) -> RunDir:
    """Returns the run in a folder; of a study, the best trial.

    Raises:
        StudyError: If the folder is neither, or the study is not finished, has no completed trial
            or several objectives.
    """
    study_folder = StudyDir(folder)
    if not study_folder.info_file.exists():
        run = RunDir(folder)
        run.info()
        return run
    study = Finished(study_folder)
    if study.unfinished:
        raise StudyError(
            f"{folder} is not finished: {study.unfinished} of its trials are open.\nType the "
            f"sweep's command again to finish it, or export a trial, as  {study_folder.trials}/"
            f"{study_folder.name(0)}"
        )
    best = study.best()
    if not best:
        raise StudyError(f"{folder} has no completed trial, so there is no model to export.")
    if len(study.objective) > 1:
        fronts = "  ".join(str(study_folder.trial(one.number).path) for one in best[:5])
        raise StudyError(
            f"{folder} has the objectives {', '.join(study.objective)}, so several trials are "
            f"best.\nExport one of them:  {fronts}"
        )
    chosen = study_folder.best_number() if study_folder.deploy.exists() else None
    return study_folder.trial(best[0].number if chosen is None else chosen)


def read_examples(trainer: Trainer, run: Run) -> Examples:
    """Reads the data of a run.

    Raises:
        ExportError: If the data is not as it was in training.
        DlsweepError: If it cannot be read.
    """
    found = trainer.build_data(run) if hasattr(trainer, "build_data") else None
    data = as_data(found)
    record = json.loads((run.dir.path / "data.json").read_text())
    if data:
        _check_unchanged(record, {**data.record, **data.facts()}, run)
        train, validation = data.train, data.validation
    else:
        train = trainer.examples(found, "train", _MOST_CALIBRATING)
        validation = trainer.examples(found, "validation", _MOST_COMPARED)
    return Examples(
        data=data,
        calibrating=_first(train, _MOST_CALIBRATING),
        compared=_first(validation, _MOST_COMPARED),
        targets=validation.targets[:_MOST_COMPARED],
        is_single=not isinstance(train.inputs, Mapping),
        record=record,
    )


def _first(split: Split, most: int) -> dict[str, Array]:
    return typed({name: array[:most] for name, array in by_name(split.inputs).items()})


def _check_unchanged(record: Mapping[str, Any], here: Mapping[str, Any], run: Run) -> None:
    for name in _FACTS:
        if name in record and json.loads(json.dumps(here.get(name))) != record[name]:
            raise ExportError(
                f"data: {name} is {_short(here.get(name))} now, and was {_short(record[name])} "
                f"when {run.dir.path} was trained.\nThe exported model would not do as the trained "
                "one did. Bring back the data of that time, or train again."
            )


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) < 80 else f"{text[:77]}…"


def class_names(examples: Examples, scores: Array) -> list[str]:
    """Returns the name of each class; its number if the data has no names.

    Args:
        examples: The data.
        scores: The trained model's scores, shape [examples, classes].
    """
    names = list(map(str, examples.record.get("class_names") or ()))
    return [*names, *map(str, range(len(names), scores.shape[1]))]
