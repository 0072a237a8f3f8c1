"""MLflow's file in another place: its artifacts open there, and nothing is written elsewhere."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from dlsweep.errors import ConfigError, TrackerError
from dlsweep.folders.rundir import Result, RunDir
from dlsweep.security import addresses
from dlsweep.trackers.mlflow.moved import follow_move
from dlsweep.trackers.mlflow.tracker import MLflowTracker

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning"),
]

ENDED = Result("completed", metrics={"val/accuracy": 0.9}, ended=2.0)


def tracker_in(folder: Path) -> MLflowTracker:
    return MLflowTracker(f"sqlite:///{folder}/mlflow.db", "project")


def client_of(folder: Path) -> Any:
    from mlflow.tracking import MlflowClient

    return MlflowClient(f"sqlite:///{folder}/mlflow.db")


def ask(folder: Path, question: str) -> list[Any]:
    with closing(sqlite3.connect(folder / "mlflow.db")) as database:
        return [row[0] for row in database.execute(question)]


@pytest.fixture
def outputs(make_run: Callable[..., RunDir], tmp_path: Path) -> Path:
    """A folder of results with one ended run, its log, and a registered model."""
    folder = tmp_path / "outputs"
    run, state = make_run(), {}
    run.log_file.write_text("trained")
    tracker = tracker_in(folder)
    tracker.start(run, {}, state)
    tracker.finish(run, ENDED, state)
    client = client_of(folder)
    experiment = client.get_experiment_by_name("project").experiment_id
    model = client.create_logged_model(experiment, "digits", state["run_id"])
    client.log_model_artifact(model.model_id, str(run.log_file))
    client.finalize_logged_model(model.model_id, "READY")
    client.create_registered_model("digits")
    source = model.artifact_location
    client.create_model_version("digits", source, state["run_id"], model_id=model.model_id)
    client.set_registered_model_alias("digits", "best", "1")
    tracker.close()
    return folder


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def download(folder: Path, to: Path) -> list[str]:
    """Downloads the run's log by its client, and the model by its registered name."""
    import mlflow.artifacts

    client = client_of(folder)
    (run_id,) = ask(folder, "SELECT run_uuid FROM runs")
    to.mkdir()
    run = client.download_artifacts(run_id, "log.txt", str(to))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        model = mlflow.artifacts.download_artifacts("models:/digits@best", dst_path=str(to / "m"))
    return [Path(run).read_text(), (Path(model) / "log.txt").read_text()]


@pytest.mark.parametrize("way", ["moved", "copied"])
def test_its_artifacts_open_in_the_new_place(outputs, tmp_path, capfd, way) -> None:
    new = tmp_path / "a new" / "place"
    new.parent.mkdir()
    shutil.copytree(outputs, new)
    if way == "moved":
        shutil.rmtree(outputs)
    else:  # what the original has is not what the copy must show
        for log in outputs.rglob("log.txt"):
            log.write_text("changed")
    follow_move(new / "mlflow.db")
    said = f"{new}/mlflow.db has moved from {outputs}: MLflow finds its artifacts here again.\n"
    assert capfd.readouterr().err == said
    assert download(new, tmp_path / "to") == ["trained", "trained"]
    with closing(sqlite3.connect(new / "mlflow.db")) as database:
        text = "\n".join(line for line in database.iterdump() if str(outputs) in line)
    assert not text, "a path that leads to the old place"
    assert outputs.exists() == (way == "copied")
    if way == "copied":
        assert str(new) not in "".join(ask(outputs, "SELECT artifact_uri FROM runs"))
    capfd.readouterr()
    follow_move(new / "mlflow.db")
    assert capfd.readouterr().err == "", "once is enough"


def test_a_run_goes_on_in_the_new_place(outputs, tmp_path, make_run) -> None:
    new = tmp_path / "new"
    shutil.copytree(outputs, new)
    before = contents(outputs)
    state: dict = {}
    run = RunDir(new / "study" / "trials" / "0000")
    tracker = tracker_in(new)
    tracker.start(run, {}, state)
    run.log_file.write_text("trained on")
    tracker.finish(run, ENDED, state)
    assert download(new, tmp_path / "to")[0] == "trained on"
    assert len(ask(new, "SELECT run_uuid FROM runs")) == 1
    assert contents(outputs) == before


def test_a_linked_folder_has_not_moved(outputs, tmp_path, capfd) -> None:
    (tmp_path / "link").symlink_to(outputs)
    follow_move(tmp_path / "link" / "mlflow.db")
    assert capfd.readouterr().err == ""
    assert download(tmp_path / "link", tmp_path / "to") == ["trained", "trained"]


def test_artifacts_that_stayed_behind_are_read_and_not_written(outputs, tmp_path) -> None:
    new = tmp_path / "new"
    new.mkdir()
    shutil.copy(outputs / "mlflow.db", new)
    state: dict = {}
    run = RunDir(outputs / "study" / "trials" / "0000")
    with pytest.raises(ConfigError, match="no command of yours has named") as refused:
        tracker_in(new).start(run, {}, state)
    assert download(new, tmp_path / "to") == ["trained", "trained"]
    place = f"tracking.mlflow.artifacts={outputs.as_uri()}/mlartifacts/project"
    assert f"{new}/mlflow.db names {place}, which" in str(refused.value)
    uri = f"sqlite:///{new}/mlflow.db"
    addresses.remember({"tracking": {"mlflow": {"tracking_uri": uri}}}, Path("/a/b/c/d"))
    tracker_in(new).start(run, {}, state)  # a command has named the file, so it is trusted
    assert state["run_id"]


@pytest.mark.parametrize(
    "place",
    [
        "file://{mine}",
        "{mine}",
        "file://{outputs}/mlartifacts/../../mine",
        "file://{outputs}/mlartifacts/%2e%2e/%2e%2e/mine",
        "file://{outputs}/link",
        "s3://bucket/mine",
        "file://server{outputs}/mlartifacts",
    ],
)
@pytest.mark.parametrize("table", ["experiments", "runs", "logged_models"])
def test_a_file_that_stores_artifacts_elsewhere_is_refused(
    outputs, tmp_path, make_run, place: str, table: str
) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (outputs / "link").symlink_to(mine)
    column = "artifact_uri" if table == "runs" else "artifact_location"
    with closing(sqlite3.connect(outputs / "mlflow.db")) as database, database:
        values = [place.format(mine=mine, outputs=outputs)]
        database.execute(f"UPDATE {table} SET {column} = ?", values)
    (run_id,) = ask(outputs, "SELECT run_uuid FROM runs")
    for state in ({}, {"run_id": run_id}):
        with pytest.raises(ConfigError, match=r"names tracking\.mlflow\.artifacts="):
            tracker_in(outputs).start(make_run(name="0001"), {}, state)
    assert not list(mine.iterdir())
    assert len(ask(outputs, "SELECT run_uuid FROM runs")) == 1


def test_another_program_s_database_is_left_as_it_is(tmp_path, make_run) -> None:
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database, database:
        database.execute("CREATE TABLE bookmarks (address)")
    before = (tmp_path / "mlflow.db").read_bytes()
    with pytest.raises(TrackerError, match=r"mlflow\.db is no file of MLflow's"):
        tracker_in(tmp_path).start(make_run(), {}, {})
    assert (tmp_path / "mlflow.db").read_bytes() == before
    (tmp_path / "mlflow.db").write_text("no database" * 100)
    with pytest.raises(TrackerError, match="file is not a database"):
        follow_move(tmp_path / "mlflow.db")


def test_a_moved_file_that_cannot_be_written_says_so(outputs, tmp_path) -> None:
    new = tmp_path / "new"
    outputs.rename(new)
    with closing(sqlite3.connect(new / "mlflow.db")) as database:
        refusal = "BEGIN SELECT RAISE(ABORT, 'no'); END"
        database.execute(f"CREATE TRIGGER x BEFORE UPDATE ON runs {refusal}")
    with pytest.raises(TrackerError, match=rf"MLflow's file {new}/mlflow.db cannot be used: no"):
        follow_move(new / "mlflow.db")
    places = "".join(ask(new, "SELECT artifact_location FROM experiments"))
    assert str(outputs) in places
    assert str(new) not in places, "it was rewritten in part"
