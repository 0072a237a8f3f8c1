"""Which run is exported, and what is refused before anything starts."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import optuna
import pytest

from dlsweep.cli.main import main
from dlsweep.errors import CheckpointError, ConfigError, MissingExtraError, StudyError
from dlsweep.export.source import run_to_export
from dlsweep.folders.studydir import StudyDir

pytestmark = pytest.mark.slow  # it trains a model


def make_study(folder: Path, values: list[Any], directions: list[str] | None = None) -> None:
    """Makes a study whose trials have these values; None is an open trial, a text is its state."""
    directions = directions or ["maximize"]
    objectives = [f"val/{n}" for n in range(len(directions))]
    study = optuna.create_study(
        study_name="mine", storage=f"sqlite:///{folder / 'study.db'}", directions=directions
    )
    for value in values:
        trial = study.ask()
        if value == "fail":
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
        elif value is not None:
            study.tell(trial, value)
    record = {
        "name": "mine",
        "objective": objectives,
        "directions": directions,
        "command": ["python"],
        "storage": f"sqlite:///{folder / 'study.db'}",
    }
    (folder / "study.json").write_text(json.dumps(record))


def study_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "outputs" / "study"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def test_the_best_trial_of_a_study_is_exported(tmp_path: Path) -> None:
    folder = study_folder(tmp_path)
    make_study(folder, [0.1, 0.9, "fail", 0.4])
    assert run_to_export(folder).path == StudyDir(folder).trial(1).path


def test_a_study_that_is_not_finished_is_refused(tmp_path: Path) -> None:
    folder = study_folder(tmp_path)
    make_study(folder, [0.1, None, 0.4])
    with pytest.raises(StudyError, match=r"is not finished: 1 of its trials are open\.\nType the "):
        run_to_export(folder)


def test_a_study_without_a_completed_trial_is_refused(tmp_path: Path) -> None:
    folder = study_folder(tmp_path)
    make_study(folder, ["fail"])
    with pytest.raises(StudyError, match="has no completed trial, so there is no model"):
        run_to_export(folder)


def test_of_several_objectives_the_trials_of_the_front_are_named(tmp_path: Path) -> None:
    folder = study_folder(tmp_path)
    make_study(folder, [[1.0, 1.0], [2.0, 0.0]], ["maximize", "minimize"])
    with pytest.raises(StudyError, match=r"Export one of them:  \S+/trials/0001$"):
        run_to_export(folder)


def test_a_folder_that_is_neither_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"is not a run folder: it has no run\.json"):
        run_to_export(tmp_path)


def test_a_run_without_a_checkpoint_is_refused(lab: Any) -> None:
    run = lab.trained("torch", "values", loss="mse", monitor="val/loss", mode="min")
    shutil.rmtree(run.checkpoints)
    with pytest.raises(CheckpointError, match="contains no valid checkpoint"):
        lab.export(run.path, "onnx")


def test_nothing_of_a_strangers_folder_is_called(lab: Any, tmp_path: Path) -> None:
    run = lab.run("torch", "images", model={"_target_": "os.system", "command": "touch hacked"})
    with pytest.raises(ConfigError, match=r"model\._target_: Received 'os\.system'"):
        lab.export(run.path, "onnx")
    assert not (tmp_path / "hacked").exists()


def test_a_run_of_a_function_is_refused(lab: Any) -> None:
    run = lab.run("torch", "images", _target_="project.images")
    with pytest.raises(ConfigError, match=r"was trained by the function project\.images"):
        lab.export(run.path, "onnx")


def test_a_folder_that_cannot_be_written_is_named(lab: Any) -> None:
    run = lab.trained("torch", "values", loss="mse", monitor="val/loss", mode="min")
    Path("mine").write_text("a file")
    with pytest.raises(
        ConfigError, match=r"mine/study/onnx cannot be written[\s\S]*--out <folder>"
    ):
        lab.export(run.path, "onnx", out=Path("mine"))


@pytest.mark.parametrize(("package", "extra"), [("onnxruntime", "onnx"), ("onnxscript", "onnx")])
def test_a_missing_extra_is_named_before_anything_is_written(
    lab: Any, package: str, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = lab.run("torch", "images")
    found = importlib.util.find_spec
    without = lambda name: None if name == package else found(name)  # noqa: E731
    monkeypatch.setattr("dlsweep.machine.imports.find_spec", without)
    with pytest.raises(MissingExtraError, match=rf"pip install 'dlsweep\[{extra}\]'"):
        lab.export(run.path, "onnx")
    assert not Path("exports").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--to", "onxx"], "--to: Received 'onxx'. Did you mean 'onnx'?"),
        (["--to", ","], "--to: Received ''."),
        (["--to", "onnx", "--quantize", "float16"], "Expected one of the formats litert."),
        (["--name", "../x"], "--name: Received '../x'."),
        (["--tolerance", "-1"], "--tolerance: Received -1.0. Expected 0 or more."),
        ([], "is not a run folder"),
    ],
)
def test_the_verb_refuses_with_a_sentence(
    arguments: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["dlsweep", "export", "nowhere", *arguments])
    with pytest.raises(SystemExit, match="1"):
        main()
    shown = capsys.readouterr()
    assert message in shown.err
    assert "Traceback" not in shown.err
    assert not shown.out


def test_the_verb_prints_a_table(
    lab: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = lab.trained("torch", "images")
    monkeypatch.setattr(sys, "argv", ["dlsweep", "export", str(run.path), "--name", "pets"])
    with pytest.raises(SystemExit, match="0"):
        main()
    out = capsys.readouterr().out
    assert "exports/pets/onnx/1" in out
    assert "100.00%" in out
    assert "python -m dlsweep serve exports/pets/onnx" in out
