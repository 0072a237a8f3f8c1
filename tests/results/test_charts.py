"""The charts of a whole study, drawn from what lies on disk."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest

from dlsweep.errors import StudyError
from dlsweep.folders.studydir import StudyDir
from dlsweep.results import charts
from dlsweep.results.charts import draw_charts
from dlsweep.results.tables import Finished

pytestmark = pytest.mark.slow

ONE = {"optimization_history", "param_importances", "timeline"}


def study(path: Path, objective: Callable[[optuna.Trial], object], trials: int, goals: int = 1):
    """A study's folder as far as charts need it."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    folder = StudyDir(path)
    folder.create()
    storage = f"sqlite:///{folder.database}"
    made = optuna.create_study(
        study_name="mine",
        storage=storage,
        directions=["minimize"] * goals,
        sampler=optuna.samplers.RandomSampler(seed=0),
    )
    made.optimize(objective, n_trials=trials)
    record = {
        "name": "mine",
        "storage": storage,
        "objective": [f"loss{number}" for number in range(goals)],
        "directions": ["minimize"] * goals,
        "command": [],
    }
    folder.info_file.write_text(json.dumps(record))
    return folder


def conditional(trial: optuna.Trial) -> float:
    """A space as sweeps have them: a choice, a logarithm, and what one choice alone has."""
    value = trial.suggest_float("lr", 1e-4, 1.0, log=True)
    if trial.suggest_categorical("training/optimizer", ["sgd", "adam"]) == "sgd":
        value += trial.suggest_float("momentum", 0.0, 0.9)
    for step in range(3):
        trial.report(value + 1 / (1 + step), step)
    if trial.number % 4 == 3:
        raise optuna.TrialPruned
    return value


def test_every_chart_is_a_picture(tmp_path: Path) -> None:
    folder = study(tmp_path / "study", conditional, 12)
    assert draw_charts(Finished(folder)) == []
    charts = folder.drawn_charts()
    assert {file.stem for file in charts} == ONE
    for file in charts:
        kept = file.read_bytes()
        assert kept.startswith(b"\x89PNG")
        width, height = struct.unpack(">II", kept[16:24])
        assert width > 300 < height
        assert len(kept) > 5000, f"{file.name} shows nothing"


def test_several_objectives_have_their_front(tmp_path: Path) -> None:
    def two(trial: optuna.Trial) -> tuple[float, float]:
        x = trial.suggest_float("x", 0.0, 1.0)
        return x, 1 - x

    folder = study(tmp_path / "study", two, 5, goals=2)
    assert draw_charts(Finished(folder)) == []
    assert {file.stem for file in folder.drawn_charts()} == {*ONE, "pareto_front"}


def test_a_chart_that_cannot_be_drawn_is_said_and_the_others_are_there(tmp_path: Path) -> None:
    folder = study(tmp_path / "study", conditional, 1)
    said = draw_charts(Finished(folder))
    assert said == ["No param_importances: fewer than 2 trials have completed."]
    assert {file.stem for file in folder.drawn_charts()} == ONE - {"param_importances"}


def test_a_long_study_has_its_latest_trials_in_its_timeline(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(charts, "_TIMELINE", 5)
    folder = study(tmp_path / "study", conditional, 6)
    assert draw_charts(Finished(folder)) == ["The timeline shows the latest 5 trials."]
    assert {file.stem for file in folder.drawn_charts()} == ONE


def test_charts_are_drawn_in_the_studys_own_folder_alone(tmp_path: Path) -> None:
    folder = study(tmp_path / "study", conditional, 3)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "timeline.png").write_text("mine")
    folder.charts.symlink_to(outside)
    assert folder.drawn_charts() == [], "nor is another's file uploaded"
    with pytest.raises(StudyError, match="is a link to"):
        draw_charts(Finished(folder))
    folder.charts.unlink()
    (folder.make_charts() / "timeline.png").symlink_to(outside / "timeline.png")
    assert folder.drawn_charts() == []
    draw_charts(Finished(folder))
    assert {file.stem for file in folder.drawn_charts()} == ONE
    assert (outside / "timeline.png").read_text() == "mine"


def test_drawing_does_not_import_scikit_learn(tmp_path: Path) -> None:
    folder = study(tmp_path / "study", conditional, 4)
    code = (
        "import sys; from dlsweep.folders.studydir import StudyDir\n"
        "from dlsweep.results.charts import draw_charts\n"
        "from dlsweep.results.tables import Finished\n"
        "print(draw_charts(Finished(StudyDir(sys.argv[1]))), 'sklearn' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(folder.path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[] False\n", "it takes seconds"
