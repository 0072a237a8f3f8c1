"""A database beside a study is recorded relative to it, and found again after a move."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from dlsweep.errors import ConfigError
from dlsweep.folders import beside
from dlsweep.folders.studydir import StudyDir
from dlsweep.security import addresses


def options(uri: str) -> dict:
    return {"mlflow": {"tracking_uri": uri, "experiment": None}, "csv": {}}


def uri_of(tracking: dict) -> str:
    return tracking["mlflow"]["tracking_uri"]


@pytest.mark.parametrize(
    ("place", "record"),
    [
        ("outputs/mnist", "sqlite:///../mlflow.db"),
        ("outputs/mnist/trials/0007", "sqlite:///../../../mlflow.db"),
        ("outputs/mnist/runs/one", "sqlite:///../../../mlflow.db"),
        ("outputs", "sqlite:///mlflow.db"),
    ],
)
def test_a_database_beside_the_folder_moves_along(tmp_path: Path, place: str, record: str) -> None:
    before = options(f"sqlite:///{tmp_path}/here/outputs/mlflow.db")
    written = beside.recorded(before, tmp_path / "here" / place)
    assert uri_of(written) == record
    assert beside.recorded(written, tmp_path / "here" / place) == written
    assert beside.found(written, tmp_path / "here" / place) == before
    after = options(f"sqlite:///{tmp_path}/there/outputs/mlflow.db")
    assert beside.found(written, tmp_path / "there" / place) == after


@pytest.mark.parametrize(
    "uri",
    [
        "sqlite:////shared/mlflow.db",
        "sqlite:///${oc.env:HOME}/mlflow.db",
        "http://host:5000",
        "postgresql://host/mlflow",
    ],
)
def test_other_addresses_are_recorded_as_they_are(tmp_path: Path, uri: str) -> None:
    study = tmp_path / "outputs" / "mnist"
    assert beside.recorded(options(uri), study) == options(uri)
    assert beside.found(options(uri), study) == options(uri)


def test_the_folders_write_relative_paths_and_read_absolute_ones(make_run, tmp_path: Path) -> None:
    tracking = options(f"sqlite:///{tmp_path}/outputs/mlflow.db")
    run = make_run(tracking=tracking)
    study = StudyDir(run.path.parents[1])
    study.write_info({"name": "study", "tracking": tracking})
    assert str(tmp_path) not in run.info_file.read_text() + study.info_file.read_text()
    assert run.info().tracking == study.info()["tracking"] == tracking
    shutil.move(tmp_path / "outputs", tmp_path / "moved")
    moved = StudyDir(tmp_path / "moved" / "study")
    expected = options(f"sqlite:///{tmp_path}/moved/mlflow.db")
    assert moved.info()["tracking"] == moved.trial(0).info().tracking == expected


@pytest.fixture
def copied(tmp_path: Path) -> tuple[Path, Path]:
    """A study whose record has an absolute path, as older ones do, and a copy of all results."""
    study = tmp_path / "outputs" / "mnist"
    study.mkdir(parents=True)
    (study.parent / "mlflow.db").touch()
    record = {"tracking": options(f"sqlite:///{study.parent}/mlflow.db")}
    (study / "study.json").write_text(json.dumps(record))
    shutil.copytree(study.parent, tmp_path / "copy")
    return study, tmp_path / "copy" / "mnist"


@pytest.mark.parametrize("original", ["stays", "is gone"])
def test_an_older_record_means_the_file_beside_it(copied, original: str) -> None:
    study, copy = copied
    assert uri_of(StudyDir(study).info()["tracking"]) == f"sqlite:///{study.parent}/mlflow.db"
    if original == "is gone":
        shutil.rmtree(study.parent)
    assert uri_of(StudyDir(copy).info()["tracking"]) == f"sqlite:///{copy.parent}/mlflow.db"


def test_a_file_that_a_command_has_named_is_meant_while_its_folder_exists(copied) -> None:
    study, copy = copied
    named = f"sqlite:///{study.parent}/mlflow.db"
    addresses.remember({"tracking": {"mlflow": {"tracking_uri": named}}}, Path("/elsewhere/a/b/c"))
    (study.parent / "mlflow.db").unlink()  # to be built again
    assert uri_of(StudyDir(copy).info()["tracking"]) == named
    shutil.rmtree(study.parent)
    assert uri_of(StudyDir(copy).info()["tracking"]) == f"sqlite:///{copy.parent}/mlflow.db"


def test_a_record_that_leads_away_with_no_file_beside_it_is_refused(copied) -> None:
    study, copy = copied
    (copy.parent / "mlflow.db").unlink()
    tracking = StudyDir(copy).info()["tracking"]
    assert uri_of(tracking) == f"sqlite:///{study.parent}/mlflow.db"
    with pytest.raises(ConfigError, match="which no command of yours has named"):
        addresses.refuse_unknown({"tracking": tracking}, copy)


def test_a_link_to_a_study_means_the_file_beside_the_study(tmp_path: Path) -> None:
    outputs, link = tmp_path / "outputs", tmp_path / "home" / "link"
    (outputs / "mnist").mkdir(parents=True)
    link.parent.mkdir()
    link.symlink_to(outputs / "mnist")
    (outputs / "mlflow.db").touch()
    (link.parent / "mlflow.db").touch()
    beside_it = options(f"sqlite:///{outputs}/mlflow.db")
    assert beside.found(options("sqlite:///../mlflow.db"), link) == beside_it
    assert beside.found(options("sqlite:////gone/mlflow.db"), link) == beside_it
    beside_link = options(f"sqlite:///{link.parent}/mlflow.db")
    assert beside.recorded(beside_link, link) == beside_link


def test_results_behind_a_link_are_named_by_the_link(tmp_path: Path) -> None:
    (tmp_path / "scratch" / "mnist").mkdir(parents=True)
    (tmp_path / "outputs").symlink_to(tmp_path / "scratch")
    tracking, study = options(f"sqlite:///{tmp_path}/outputs/mlflow.db"), tmp_path / "outputs/mnist"
    written = beside.recorded(tracking, study)
    assert uri_of(written) == "sqlite:///../mlflow.db"
    assert beside.found(written, study) == tracking


@pytest.mark.parametrize("path", ["../../mlflow.db", "../other/x.db", "../../../../../x.db"])
def test_a_relative_path_above_the_results_is_refused(tmp_path: Path, path: str) -> None:
    study = tmp_path / "a" / "b" / "mnist"
    tracking = beside.found(options(f"sqlite:///{path}"), study)
    assert uri_of(tracking) == f"sqlite:///{path}"
    with pytest.raises(ConfigError, match="which no command of yours has named"):
        addresses.refuse_unknown({"tracking": tracking}, study)
