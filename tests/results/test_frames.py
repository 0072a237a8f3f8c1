"""A study's tables for notebooks: their columns, their types, and the notebook that uses them."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from made_studies import BEGAN, HIDDEN, LR, OPTIMIZER, Made, make_study

import dlsweep
from dlsweep.errors import StudyError
from dlsweep.folders.studydir import StudyDir

NOTEBOOK = Path(__file__).parents[2] / "experiments" / "after_the_sweep.ipynb"
TRIALS = [
    Made({OPTIMIZER: "adam", LR: 0.001, HIDDEN: 64}, [0.9], [0.5, 0.8, 0.9], span=(0, 3)),
    Made({OPTIMIZER: "sgd", LR: 0.01}, [0.95], [0.7, 0.95], attrs={"size": 7}),
    Made({OPTIMIZER: "sgd", LR: 0.1, HIDDEN: 32}, [0.2], [0.2], "pruned"),
    Made({OPTIMIZER: "adam", LR: 0.05, HIDDEN: 32}, [], [], "crashed", "crashed: oh"),
    Made({OPTIMIZER: "adam", LR: 0.02, HIDDEN: 32}, [], [], ""),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> StudyDir:
    return make_study(tmp_path_factory.mktemp("frames") / "outputs" / "mnist", TRIALS)[0]


def test_trials_have_a_row_each_and_stable_columns(folder: StudyDir) -> None:
    trials = dlsweep.load(folder.path).trials
    assert list(trials.columns) == [
        *("state", "val/accuracy", "start", "duration", "folder", "reason", "user_attrs_size"),
    ]
    assert (trials.index.name, list(trials.index)) == ("number", [0, 1, 2, 3, 4])
    assert list(trials["state"]) == ["completed", "completed", "pruned", "crashed", "open"]
    np.testing.assert_equal(trials["val/accuracy"].to_numpy(), [0.9, 0.95, 0.2, np.nan, np.nan])
    assert list(trials["reason"]) == ["", "", "", "crashed: oh", ""]
    assert trials.loc[2, "folder"] == str(folder.trial(2).path)
    assert trials["user_attrs_size"].dropna().to_dict() == {1: 7}
    assert trials["duration"].isna().to_list() == [False] * 4 + [True]


def test_times_are_in_utc(folder: StudyDir) -> None:
    study = dlsweep.load(str(folder.path))
    late = datetime.now(UTC) - study.trials["start"]
    assert (late.dt.total_seconds().between(0, 600)).all(), "the study was made a moment ago"
    assert study.curves["time"].iloc[0].timestamp() == pytest.approx(BEGAN + 0.5)
    assert str(study.curves["time"].dt.tz) == "UTC"


def test_params_are_as_launched_and_join_the_trials(folder: StudyDir) -> None:
    study = dlsweep.load(folder.path)
    assert list(study.params.columns) == [OPTIMIZER, LR, HIDDEN]
    assert list(study.params[LR]) == [0.001, 0.01, 0.1, 0.05, 0.02]
    assert study.params[HIDDEN].isna().to_list() == [False, True, False, False, False]
    together = study.trials.join(study.params)
    assert len(together) == len(TRIALS)
    assert together.loc[1, OPTIMIZER] == "sgd"


def test_curves_have_a_row_for_each_logged_value(folder: StudyDir) -> None:
    curves = dlsweep.load(folder.path).curves
    assert list(curves.columns) == ["number", "step", "time", "metric", "value"]
    first = curves[curves["number"] == 0]
    assert list(first["step"]) == [0, 1, 2]
    assert list(first["value"]) == [0.5, 0.8, 0.9]
    assert set(curves["metric"]) == {"val/accuracy"}
    assert len(curves) == sum(len(one.curve) for one in TRIALS)


def test_an_empty_study_has_the_same_columns_and_types(tmp_path: Path, folder: StudyDir) -> None:
    empty = dlsweep.load(make_study(tmp_path / "mine", [])[0].path)
    full = dlsweep.load(folder.path)
    assert len(empty.trials) == len(empty.params) == len(empty.curves) == 0
    assert list(empty.trials) == [name for name in full.trials if name != "user_attrs_size"]
    for name in ("val/accuracy", "duration"):
        assert empty.trials[name].dtype == full.trials[name].dtype == np.float64
    assert isinstance(empty.trials["start"].dtype, pd.DatetimeTZDtype)
    assert empty.curves.dtypes.drop(["metric", "time"]).equals(
        full.curves.dtypes.drop(["metric", "time"])
    )
    empty.trials.join(empty.params)


def test_several_objectives_have_a_column_each(tmp_path: Path) -> None:
    two = (["loss", "seconds"], ["minimize", "minimize"])
    folder, _ = make_study(tmp_path / "mine", [Made({LR: 0.01}, [1, 9])], *two)
    trials = dlsweep.load(folder.path).trials
    assert trials.loc[0, ["loss", "seconds"]].to_list() == [1, 9]


def test_another_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"is not a study folder: it has no study\.json"):
        dlsweep.load(tmp_path)


def test_importing_dlsweep_imports_neither_pandas_nor_optuna() -> None:
    code = "import sys, dlsweep; dlsweep.load; print({'pandas', 'optuna'} & {*sys.modules})"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "set()\n"


def test_the_notebook_runs(folder: StudyDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.path.parents[1])
    notebook = json.loads(NOTEBOOK.read_text())
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] for cell in cells), "outputs stay out of the repository"
    names: dict[str, Any] = {}
    for cell in cells:
        exec(compile("".join(cell["source"]), cell["id"], "exec"), names)
    assert names["best_folder"] == str(folder.trial(1).path)
    assert names["by_choice"][OPTIMIZER].loc["sgd", "count"] == 1
    assert names["steps_to"](0.95)[0] == 2
