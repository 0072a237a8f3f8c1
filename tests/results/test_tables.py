"""The tables of a study, its best trial, and the command to paste."""

from __future__ import annotations

import io
import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from omegaconf import OmegaConf
from rich.console import Console

from dlsweep.errors import StudyError
from dlsweep.folders.rundir import Result, RunInfo
from dlsweep.folders.studydir import StudyDir
from dlsweep.results import tables
from dlsweep.sweep.space import SearchSpace
from dlsweep.sweep.study import Study, StudySettings

CHOICE, MOMENTUM = "training/optimizer", "training.optimizer.momentum"
SAMPLER = {"_target_": "optuna.samplers.RandomSampler"}
ADAM = {CHOICE: "adam", "data.folder": None}
SGD = {CHOICE: "sgd", MOMENTUM: 0.5, "data.folder": "a b"}


@pytest.fixture(scope="module")
def space(make_space: Callable[..., SearchSpace]) -> SearchSpace:
    return make_space(
        f"{CHOICE}=adam,sgd", f"{MOMENTUM}=interval(0.0,0.9)", "data.folder=null,'a b',3"
    )


def ended(status: str, **metrics: float) -> Result:
    return Result(status, "killed by SIGKILL" if status == "killed" else "", metrics)


def make_study(
    path: Path,
    space: SearchSpace,
    ends: list[tuple[dict[str, Any], Result]],
    direction: str = "minimize",
    objective: tuple[str, ...] = ("loss",),
) -> StudyDir:
    """A study's folder as a sweep leaves it, with these points and how they ended."""
    folder = StudyDir(path)
    folder.create()
    storage, goals = f"sqlite:///{folder.database}", list(objective)
    directions = [direction] * len(goals)
    study = Study(StudySettings("mine", storage, goals, directions, SAMPLER, {}), space)
    for point, end in ends:
        trial = study.ask(point)
        info = RunInfo(
            "", "", "mine", trial.number, goals, directions, trial.overrides, {}, {}, 0.0
        )
        folder.trial(trial.number).create(info, OmegaConf.create())
        study.tell(trial, end)
    record = {"name": "mine", "storage": storage, "objective": goals, "directions": directions}
    folder.info_file.write_text(json.dumps({**record, "command": ["python", "-m", "dlsweep"]}))
    return folder


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, space: SearchSpace) -> StudyDir:
    ends = [
        (ADAM, ended("completed", loss=0.5)),
        (SGD, ended("completed", loss=0.25)),
        (ADAM, ended("pruned")),
        ({**SGD, "data.folder": 3}, ended("killed")),
        (ADAM, ended("interrupted")),
    ]
    folder = make_study(tmp_path_factory.mktemp("results") / "mine", space, ends)
    tables.write_tables(tables.Finished(folder))
    return folder


def test_the_table_has_one_row_a_trial(study: StudyDir) -> None:
    table = pd.read_csv(study.csv)
    assert list(table["number"]) == [0, 1, 2, 3, 4]
    assert list(table["state"]) == ["completed", "completed", "pruned", "killed", "open"]
    assert list(table["loss"].dropna()) == [0.5, 0.25]
    assert list(table[CHOICE]) == ["adam", "sgd", "adam", "sgd", "adam"]
    assert list(table[MOMENTUM].isna()) == [True, False, True, False, True]
    assert list(table["reason"].dropna()) == ["killed: killed by SIGKILL"]
    assert list(table["folder"]) == [f"trials/000{number}" for number in range(5)]


def test_parquet_holds_the_same_also_for_a_column_of_mixed_types(study: StudyDir) -> None:
    csv, parquet = pd.read_csv(study.csv), pd.read_parquet(study.parquet)
    assert list(csv.columns) == list(parquet.columns)
    for name in ("number", "state", "loss", CHOICE, MOMENTUM, "folder"):
        assert csv[name].equals(parquet[name].astype(csv[name].dtype)), name
    assert list(parquet["data.folder"].dropna()) == ["a b", "3"]


def test_the_best_trial_is_written_with_the_command_that_trains_it(study: StudyDir) -> None:
    best = OmegaConf.to_container(OmegaConf.load(study.best))
    assert (best["number"], best["value"], best["params"]) == (1, 0.25, SGD)
    assert best["values"] == {"loss": 0.25}
    overrides = study.trial(1).info().overrides
    assert shlex.split(best["command"]) == ["python", "-m", "dlsweep", *overrides]


def test_the_command_registers_no_model_again(study: StudyDir) -> None:
    file = study.trial(1).info_file
    record = json.loads(file.read_text())
    named = "tracking.mlflow.registered_model_name=digits"
    file.write_text(json.dumps({**record, "overrides": [named, *record["overrides"]]}))
    finished = tables.Finished(study)
    command = shlex.split(finished.command(finished.best()[0]))
    assert command == ["python", "-m", "dlsweep", *record["overrides"]]


def test_the_leaderboard_has_the_best_first_and_no_control_codes(study: StudyDir) -> None:
    file = io.StringIO()
    tables.show(tables.Finished(study), Console(file=file, width=200))
    shown = file.getvalue()
    assert "mine: 5 trials (2 completed, 1 pruned, 1 killed, 1 open)" in shown
    rows = [line.split()[:2] for line in shown.splitlines() if line.startswith(" 000")]
    assert rows == [["0001", "0.25"], ["0000", "0.5"]]
    assert "training/optimizer=sgd training.optimizer.momentum=0.5" in shown
    assert "\x1b" not in shown


def test_the_direction_decides_what_is_best(tmp_path: Path, space: SearchSpace) -> None:
    ends = [(ADAM, ended("completed", loss=value)) for value in (0.5, 2.0, 1.0)]
    folder = make_study(tmp_path / "mine", space, ends, direction="maximize")
    tables.write_tables(tables.Finished(folder))
    best = OmegaConf.load(folder.best)
    assert (best.number, best["values"]["loss"], best.params) == (1, 2.0, ADAM)


def test_several_objectives_show_the_front(
    tmp_path: Path, space: SearchSpace, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = [(1.0, 2.0), (2.0, 1.0), (2.0, 2.0)]
    ends = [(ADAM, ended("completed", loss=a, seconds=b)) for a, b in pairs]
    folder = make_study(tmp_path / "mine", space, ends, objective=("loss", "seconds"))
    tables.main([folder.path])
    shown = capsys.readouterr().out
    assert "The front's first again" in shown
    rows = {line.split()[0] for line in shown.splitlines() if line.startswith(" 000")}
    assert rows == {"0000", "0001"}


def test_without_a_completed_trial_there_is_no_best(
    tmp_path: Path, space: SearchSpace, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_study(tmp_path / "mine", space, [(ADAM, ended("pruned"))])
    tables.write_tables(tables.Finished(folder))
    assert not folder.best.exists()
    tables.main([folder.path])
    assert "No trial has completed." in capsys.readouterr().out


def test_another_folder_is_no_studys(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"it has no study\.json"):
        tables.main([tmp_path])
