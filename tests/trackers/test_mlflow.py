from __future__ import annotations

import json
import math
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from dlsweep.errors import ConfigError, TrackerError
from dlsweep.folders.rundir import Record, Result, RunDir
from dlsweep.folders.studydir import StudyDir
from dlsweep.run.checkpoint import open_checkpoint
from dlsweep.run.keeping import checkpoints_of, surplus
from dlsweep.trackers.base import ViewLostError
from dlsweep.trackers.mlflow.sharing import share
from dlsweep.trackers.mlflow.tracker import MLflowTracker

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning"),
]

STUDY = {
    "id": "s5",
    "name": "study",
    "objective": ["val/accuracy"],
    "directions": ["maximize"],
    "created": 100.0,
    "n_trials": 3,
}


@pytest.fixture(scope="module")
def tracker(tmp_path_factory: pytest.TempPathFactory) -> MLflowTracker:
    """One database for all tests here; each has a run of its own."""
    return MLflowTracker(f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db")


@pytest.fixture
def client(tracker: MLflowTracker):
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracker.uri)


def begin(tracker: MLflowTracker, run: RunDir, parent=None) -> dict:
    state: dict = {}
    tracker.start(run, parent or {}, state)
    return state


def test_a_run_has_its_name_tags_params_and_config(tracker, client, make_run):
    run = make_run(
        {"model": {"hidden": [8, 8]}, "seed": 0},
        overrides=["seed=0", "training/optimizer=adam"],
        params={"training/optimizer": "adam"},
        created=1000.5,
    )
    kept = client.get_run(begin(tracker, run)["run_id"])
    assert (kept.info.run_name, kept.info.status, kept.info.start_time) == (
        "0000 study optimizer=adam",
        "RUNNING",
        1_000_500,
    )
    assert kept.data.params == {
        "model.hidden": "[8, 8]",
        "seed": "0",
        "training/optimizer": "adam",
    }
    tags = {name: text for name, text in kept.data.tags.items() if name.startswith("dlsweep.")}
    assert tags == {
        "dlsweep.run_id": run.info().id,
        "dlsweep.folder": str(run.path),
        "dlsweep.overrides": "seed=0 training/optimizer=adam",
        "dlsweep.status": "running",
    }
    assert "mlflow.parentRunId" not in kept.data.tags
    (artifact,) = client.list_artifacts(kept.info.run_id)
    assert artifact.path == "config.yaml"
    assert kept.info.artifact_uri.startswith((tracker.database.parent / "mlartifacts").as_uri())


def test_its_file_holds_all_there_is_once_it_is_closed(make_run, tmp_path):
    tracker = MLflowTracker(f"sqlite:///{tmp_path}/mlflow.db")
    run_id = begin(tracker, make_run())["run_id"]
    tracker.close()
    copy = shutil.copyfile(tmp_path / "mlflow.db", tmp_path / "copy.db")
    with closing(sqlite3.connect(copy)) as opened:
        assert opened.execute("SELECT run_uuid FROM runs").fetchall() == [(run_id,)]


def test_a_trial_is_a_child_of_its_study(tracker, client, make_run, tmp_path):
    parent: dict = {}
    tracker.log_study(StudyDir(tmp_path), STUDY, parent)
    child = client.get_run(begin(tracker, make_run(), parent)["run_id"])
    assert child.data.tags["mlflow.parentRunId"] == parent["run_id"]
    assert child.info.experiment_id == client.get_run(parent["run_id"]).info.experiment_id


def test_the_studies_of_a_project_share_its_experiment(tracker, client, make_run, tmp_path):
    project = MLflowTracker(tracker.uri, "project")
    parents = [{}, {}]
    for name, parent in zip("ab", parents, strict=True):
        study = {**STUDY, "id": name, "name": name}
        project.log_study(StudyDir(tmp_path / name), study, parent)
        state = begin(project, make_run(study=name), parent)
        assert client.get_run(state["run_id"]).data.tags["mlflow.parentRunId"] == parent["run_id"]
    experiment = client.get_experiment_by_name("project").experiment_id
    runs = client.search_runs([experiment])
    assert len(runs) == 4
    above = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert sorted(run.info.run_name for run in above) == ["a", "b"]
    assert {run.info.run_id for run in above} == {parent["run_id"] for parent in parents}


def test_metrics_are_curves_with_steps_and_milliseconds(tracker, client, make_run):
    run = make_run()
    state = begin(tracker, run)
    tracker.log(run, [Record(3, 5.25, {"a": 1.0, "b": math.nan}), Record(4, 6.0, {"a": 2})], state)
    points = client.get_metric_history(state["run_id"], "a")
    assert [(p.step, p.timestamp, p.value) for p in points] == [(3, 5250, 1.0), (4, 6000, 2.0)]
    (point,) = client.get_metric_history(state["run_id"], "b")
    assert math.isnan(point.value)


def test_more_metrics_than_one_call_takes_arrive(tracker, client, make_run):
    run = make_run()
    state = begin(tracker, run)
    tracker.log(run, [Record(step, 1.0, {"a": step, "b": step}) for step in range(700)], state)
    assert len(client.get_metric_history(state["run_id"], "b")) == 700


def test_more_and_longer_params_than_mlflow_takes_arrive(tracker, client, make_run):
    run = make_run({**{f"p{k}": k for k in range(230)}, "long": "x" * 9000, "odd@name": 1})
    params = client.get_run(begin(tracker, run)["run_id"]).data.params
    assert len(params) == 232
    assert len(params["long"]) == 6000
    (odd,) = [name for name in params if name.startswith("odd_name-")]
    assert params[odd] == "1"


def test_names_that_mlflow_would_write_alike_stay_apart(tracker, client, make_run):
    names = ["mean@1", "mean#1", "mean_1", "x" * 300 + "a", "x" * 300 + "b", ".", ".."]
    run = make_run({"odd@key": 1, "odd#key": 2})
    state = begin(tracker, run)
    values = dict(zip(names, range(7), strict=True))
    tracker.log(run, [Record(1, 1.0, values)], state)
    data = client.get_run(state["run_id"]).data
    assert sorted(data.params.values()) == ["1", "2"]
    assert sorted(data.metrics.values()) == list(range(7))
    assert data.metrics["mean_1"] == 2
    for name, value in values.items():
        record = {"step": 1, "time": 1.0, "metrics": {name: value}}
        run.records_file.write_text(json.dumps(record) + "\n")
        assert list(tracker.read(run, state)) == [(1, name, value)]


@pytest.mark.parametrize(
    ("name", "kept"),
    [("a@b", "a_b-"), ("/a", "a-"), ("../x", "x-"), ("a//b", "a/b-"), (".", "-"), ("ü", "ü")],
)
def test_a_name_that_mlflow_refuses_is_mended(tracker, client, make_run, name, kept):
    run = make_run()
    state = begin(tracker, run)
    tracker.log(run, [Record(0, 1.0, {name: 1.0})], state)
    (found,) = client.get_run(state["run_id"]).data.metrics
    assert re.sub("[0-9a-f]{6}$", "", found) == kept


@pytest.mark.parametrize(
    ("status", "shown"),
    [
        ("completed", "FINISHED"),
        ("pruned", "FINISHED"),
        ("killed", "KILLED"),
        ("crashed", "FAILED"),
        ("out_of_memory", "FAILED"),
        ("diverged", "FAILED"),
    ],
)
def test_a_finished_run_shows_how_it_ended(tracker, client, make_run, status, shown):
    run = make_run()
    run.log_file.write_text("the log")
    state = begin(tracker, run)
    result = Result(status, "a reason", {"val/accuracy": 0.75}, ended=2000.25)
    tracker.finish(run, result, state)
    tracker.finish(run, result, state)
    kept = client.get_run(state["run_id"])
    assert (kept.info.status, kept.info.end_time) == (shown, 2_000_250)
    assert kept.data.tags["dlsweep.status"] == status
    assert kept.data.tags["dlsweep.reason"] == "a reason"
    assert kept.data.metrics == {"result/val/accuracy": 0.75}
    assert len(client.get_metric_history(state["run_id"], "result/val/accuracy")) == 1
    assert "log.txt" in [artifact.path for artifact in client.list_artifacts(state["run_id"])]


def test_a_run_that_goes_on_after_its_end_is_running_again(tracker, client, make_run):
    run = make_run()
    state = begin(tracker, run)
    tracker.finish(run, Result("killed", ended=1.0), state)
    tracker.log(run, [Record(1, 1.0, {"a": 1.0})], state)
    assert client.get_run(state["run_id"]).info.status == "RUNNING"


def save_checkpoints(run: RunDir) -> None:
    def write(folder):
        (folder / "model.txt").write_text(str(accuracy))
        (folder / "optimizer.txt").write_text(100 * str(accuracy))

    checkpoints = checkpoints_of(run)
    for step, accuracy in enumerate([0.5, 0.9, 0.7]):
        metrics = {"val/accuracy": accuracy}
        checkpoints.save(step, write, metrics, resume_only=["optimizer.txt"])


def kept_by(tracker: MLflowTracker, state: dict) -> Path:
    """The folder of a run's checkpoints in the artifact store."""
    store = tracker.database.parent / "mlartifacts" / "study"
    return store / state["run_id"] / "artifacts" / "checkpoint"


@pytest.mark.parametrize(
    ("keep", "status", "kept"),
    [
        ("best", "completed", ["checkpoint/step-00000001"]),
        ("last", "completed", ["checkpoint/step-00000002"]),
        ("best", "pruned", []),
        ("none", "completed", []),
    ],
)
def test_the_checkpoint_of_a_completed_run_is_kept(tracker, client, make_run, keep, status, kept):
    run = make_run()
    save_checkpoints(run)
    teller = MLflowTracker(tracker.uri, checkpoint=keep)
    state = begin(teller, run)
    teller.finish(run, Result(status, ended=1.0), state)
    artifacts = client.list_artifacts(state["run_id"], "checkpoint")
    assert [artifact.path for artifact in artifacts] == kept


def test_a_study_that_is_over_names_its_best_trial(tracker, client, make_run):
    runs = [make_run(name=f"{k:04d}") for k in range(2)]
    study = StudyDir(runs[0].path.parents[1])
    info = {**STUDY, "id": "over"}
    parent: dict = {}
    tracker.log_study(study, info, parent)
    states = [begin(tracker, run, parent) for run in runs]
    for run, value in zip(runs, (0.8, 0.9), strict=True):
        run.write_result(Result("completed", metrics={"val/accuracy": value}, ended=200.0))
    assert client.get_run(parent["run_id"]).info.status == "RUNNING"
    best = {"number": 1, "value": 0.9, "params": {"lr": 0.1}}
    end = {**info, "finished": 300.0, "best": best}
    tracker.log_study(study, end, parent)
    assert not client.list_artifacts(parent["run_id"]), "it is not written yet"
    study.report.write_text("<!DOCTYPE html>")
    tracker.log_study(study, {**end, "report": "report.html"}, parent)
    kept = client.get_run(parent["run_id"])
    assert (kept.info.run_name, kept.info.status, kept.info.end_time) == (
        "study",
        "FINISHED",
        300_000,
    )
    assert kept.data.metrics == {"best/val/accuracy": 0.9}
    assert kept.data.tags["dlsweep.best_run_id"] == states[1]["run_id"]
    assert json.loads(kept.data.tags["dlsweep.best_params"]) == {"lr": 0.1}
    link = kept.data.tags["mlflow.note.content"]
    experiment = kept.info.experiment_id
    assert f"[0001](#/experiments/{experiment}/runs/{states[1]['run_id']}), at 0.9" in link
    assert [one.path for one in client.list_artifacts(parent["run_id"])] == ["report.html"]
    tracker.log_study(study, {**info, "n_trials": 9}, parent)
    assert client.get_run(parent["run_id"]).info.status == "RUNNING"


def test_the_best_value_is_a_curve_over_trials_once_whatever_is_repeated(tracker, client, make_run):
    values = [0.5, 0.25, 0.75, 0.5]
    runs = [make_run(name=f"{k:04d}") for k in range(len(values))]
    study = StudyDir(runs[0].path.parents[1])
    info = {**STUDY, "id": "curve", "n_trials": 3}
    states: list[dict] = [{}, {}]
    for n_trials, finished in ((3, 300.0), (3, 300.0), (4, 400.0)):
        for number in range(n_trials):
            ended = Result("completed", metrics={"val/accuracy": values[number]}, ended=number + 1)
            runs[number].write_result(ended)
        end = {**info, "n_trials": n_trials, "finished": finished, "best": None}
        for state in states:  # the second is that of a mirror whose state was lost
            tracker.log_study(study, end, state)
    assert states[0]["run_id"] == states[1]["run_id"]
    curve = client.get_metric_history(states[0]["run_id"], "best/val/accuracy")
    assert [(p.step, p.value, p.timestamp) for p in curve] == [
        (0, 0.5, 1000),
        (1, 0.5, 2000),
        (2, 0.75, 3000),
        (3, 0.75, 4000),
    ]


def test_a_run_keeps_the_name_of_an_earlier_version_and_one_given_in_mlflow(
    tracker, client, make_run
):
    run = make_run(params={"lr": 0.1})
    state = begin(tracker, run)
    client.update_run(state["run_id"], name="0000")
    tracker.start(run, {}, {"run_id": state["run_id"]})  # the state of an earlier version
    assert begin(tracker, run)["run_id"] == state["run_id"], "found by its tag"
    tracker.finish(run, Result("completed", ended=1.0), state)
    assert client.get_run(state["run_id"]).info.run_name == "0000"


def test_a_report_that_links_elsewhere_is_not_uploaded(tracker, client, tmp_path):
    (tmp_path / "secret").write_text("mine")
    study = StudyDir(tmp_path)
    study.report.symlink_to(tmp_path / "secret")
    info = {**STUDY, "id": "linked", "finished": 300.0, "report": "report.html"}
    parent: dict = {}
    tracker.log_study(study, info, parent)
    assert not client.list_artifacts(parent["run_id"])
    assert not list(tracker.missing_of_study(study, info, parent))


def test_a_best_trial_whose_folder_is_gone_stops_nothing(tracker, client, tmp_path):
    best = {"number": 7, "value": 0.9, "params": {}}
    info = {**STUDY, "id": "without trials", "finished": 300.0, "best": best}
    parent: dict = {}
    tracker.log_study(StudyDir(tmp_path), info, parent)
    assert client.get_run(parent["run_id"]).data.tags["dlsweep.best_trial"] == "7"


def test_a_deleted_run_is_said_to_be_lost(tracker, client, make_run):
    run = make_run()
    state = begin(tracker, run)
    client.delete_run(state["run_id"])
    with pytest.raises(ViewLostError, match="no longer in"):
        tracker.start(run, {}, state)


def test_a_deleted_experiment_is_named(tracker, client, make_run):
    client.delete_experiment(client.create_experiment("dropped"))
    with pytest.raises(TrackerError, match="experiment 'dropped' was deleted"):
        begin(tracker, make_run(study="dropped"))


def test_processes_that_start_on_no_database_at_once_share_one(make_run, tmp_path):
    runs = [make_run(name=f"{k:04d}") for k in range(2)]
    uri = f"sqlite:///{tmp_path}/new/mlflow.db"
    code = (
        "import sys; from dlsweep.folders.rundir import RunDir;"
        "from dlsweep.trackers.mlflow.tracker import MLflowTracker;"
        f"MLflowTracker({uri!r}).start(RunDir(sys.argv[1]), {{}}, {{}})"
    )
    processes = [subprocess.Popen([sys.executable, "-c", code, str(run.path)]) for run in runs]
    assert [process.wait(timeout=60) for process in processes] == [0, 0]
    with sqlite3.connect(tmp_path / "new" / "mlflow.db") as connection:
        (count,) = connection.execute("SELECT count(DISTINCT experiment_id) FROM runs").fetchone()
    connection.close()
    assert count == 1


def test_a_relative_file_is_found_from_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tracker = MLflowTracker("sqlite:///outputs/mlflow.db")
    assert tracker.uri == f"sqlite:///{tmp_path}/outputs/mlflow.db"
    assert tracker.view == "python -m dlsweep ui mlflow --folder {folder}"
    tracker.check()
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize("uri", ["mlruns", "sqlite:///", "http://", "databricks"])
def test_another_kind_of_uri_is_refused(uri):
    with pytest.raises(ConfigError, match=f"Received '{uri}'.\nExpected a file"):
        MLflowTracker(uri)


def test_a_password_is_not_shown():
    assert MLflowTracker("https://me:secret@host/path").view == "https://host/path"


def test_a_file_below_a_file_cannot_be_written(tmp_path):
    (tmp_path / "outputs").write_text("in the way")
    with pytest.raises(TrackerError, match="cannot be written"):
        MLflowTracker(f"sqlite:///{tmp_path}/outputs/mlflow.db").check()


def test_a_server_that_is_away_is_said_at_once():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    begun = time.monotonic()
    with pytest.raises(TrackerError, match=f"127.0.0.1:{port} does not answer: .*refused"):
        MLflowTracker(f"http://127.0.0.1:{port}").check()
    assert time.monotonic() - begun < 1


def test_a_server_that_never_answers_holds_up_a_call_for_seconds_only(make_run):
    from mlflow.exceptions import MlflowException

    with socket.create_server(("127.0.0.1", 0)) as deaf:
        threading.Thread(target=swallow, args=(deaf,), daemon=True).start()
        tracker = MLflowTracker(f"http://127.0.0.1:{deaf.getsockname()[1]}")
        tracker.check()
        begun = time.monotonic()
        with pytest.raises(MlflowException, match="HTTPConnectionPool"):
            begin(tracker, make_run())
        assert time.monotonic() - begun < 15


def swallow(server: socket.socket) -> None:
    """Takes connections and hangs up on each."""
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        connection.close()


def test_making_and_checking_one_imports_no_mlflow(tmp_path):
    code = (
        "import sys; from dlsweep.trackers.mlflow.tracker import MLflowTracker;"
        f"MLflowTracker('sqlite:///{tmp_path}/m.db').check();"
        "print([m for m in sys.modules if m in ('mlflow', 'sqlalchemy')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_images_histograms_texts_and_tables_are_artifacts_that_replace_themselves(
    tracker, client, rich_run, tmp_path
):
    run, records = rich_run
    state = begin(tracker, run)
    for _ in range(2):
        tracker.log(run, records, state)
    run_id = state["run_id"]
    paths = {
        artifact.path
        for kind in ("images", "histograms", "texts", "tables")
        for artifact in client.list_artifacts(run_id, kind)
    }
    stem = next(path for path in paths if path.endswith(".png")).removesuffix(".png")
    assert stem.startswith("images/val~examples+step+1+timestamp+")
    assert paths == {
        f"{stem}.png",
        f"{stem}+compressed.webp",
        "histograms/weights-00000001.json",
        "texts/sample-00000001.txt",
        "tables/wrong-00000001.json",
    }
    table = mlflow_table(client, run_id, "tables/wrong-00000001.json")
    assert table == [{"id": 3, "label": "a|b"}, {"id": 4, "label": None}]
    assert client.get_run(run_id).data.tags["mlflow.loggedImages"] == "True"
    assert list(client.get_run(run_id).data.metrics) == ["val/loss"]


def mlflow_table(client, run_id, path):
    """A table as MLflow reads it itself."""
    with tempfile.TemporaryDirectory() as folder:
        frame = client._read_from_file(client.download_artifacts(run_id, path, folder))
    return frame.astype(object).where(frame.notna(), None).to_dict("records")


def test_a_checkpoint_is_uploaded_again_only_when_it_has_changed(tracker, client, make_run):
    run = make_run()
    save_checkpoints(run)
    state = begin(tracker, run)
    kept = kept_by(tracker, state)
    tracker.finish(run, Result("completed", ended=1.0), state)
    first = (kept / "step-00000001").stat().st_mtime_ns
    tracker.finish(run, Result("completed", ended=2.0), state)
    assert (kept / "step-00000001").stat().st_mtime_ns == first
    checkpoints_of(run).save(
        3, lambda folder: (folder / "model.txt").write_text("better"), {"val/accuracy": 0.95}
    )
    tracker.finish(run, Result("completed", ended=3.0), state)
    assert (kept / "step-00000003" / "model.txt").read_text() == "better"


def test_its_files_are_on_the_disk_once_and_outlive_those_of_the_run(tracker, client, make_run):
    run = make_run()
    save_checkpoints(run)
    state = begin(tracker, run)
    for _ in range(2):
        tracker.finish(run, Result("completed", ended=1.0), state)
        state.pop("checkpoint")  # as if killed before the state was written
    kept = kept_by(tracker, state) / "step-00000001"
    for name in ("model.txt", "optimizer.txt"):
        assert (kept / name).samefile(run.checkpoints / "step-00000001" / name)
    assert list(tracker.missing(run, Result("completed"), state)) == []
    surplus(run, keeps_weights=True).remove("best")
    assert list(tracker.missing(run, Result("completed"), state)) == []
    shutil.rmtree(run.checkpoints)
    assert sorted(path.name for path in kept.iterdir()) == [
        "manifest.json",
        "model.txt",
        "optimizer.txt",
    ]
    assert open_checkpoint(kept).is_whole


@pytest.mark.parametrize("keep", ["best", "last"])
def test_a_run_that_will_keep_only_its_weights_has_only_them_there(tracker, client, make_run, keep):
    run = make_run(keep="best")
    save_checkpoints(run)
    teller = MLflowTracker(tracker.uri, checkpoint=keep)
    state = begin(teller, run)
    teller.finish(run, Result("completed", ended=1.0), state)
    (kept,) = kept_by(tracker, state).iterdir()
    assert sorted(path.name for path in kept.iterdir()) == ["manifest.json", "model.txt"]
    assert not open_checkpoint(kept).is_whole
    told = dict(state)
    for _ in range(2):
        assert list(teller.missing(run, Result("completed"), state)) == []
        teller.finish(run, Result("completed", ended=1.0), state)
        assert state == told, "it is the same checkpoint"
        surplus(run, keeps_weights=True).remove("best")


def test_on_another_disk_files_are_copied(tmp_path):
    other = Path("/dev/shm")
    if not other.is_dir() or other.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no other disk to write to")
    copied: list[str] = []
    with tempfile.TemporaryDirectory(dir=other) as store:
        file = tmp_path / "weights"
        file.write_text("w")
        share([file], f"file://{store}", "checkpoint", copied.append)
        assert list(Path(store, "checkpoint").iterdir()) == []
    share([file], "mlflow-artifacts:/1/abc/artifacts", "checkpoint", copied.append)
    assert copied == [str(file)] * 2


def test_another_word_for_the_checkpoint_is_refused():
    with pytest.raises(
        ConfigError, match=r"checkpoint: Received True. Expected best, last or none"
    ):
        MLflowTracker("sqlite:///m.db", checkpoint=True)


def test_a_new_database_is_made_without_a_word(tmp_path):
    code = (
        "import sys\n"
        "from dlsweep.trackers.mlflow.tracker import MLflowTracker\n"
        "tracker = MLflowTracker(sys.argv[1])\n"
        "tracker.preload()\n"
        "tracker._client.search_experiments()\n"
    )
    command = [sys.executable, "-c", code, f"sqlite:///{tmp_path}/mlflow.db"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_study_holds_where_its_runs_come_from(tracker, client, make_run):
    run = make_run()
    study = StudyDir(run.path.parents[1])
    (study.path / "origin.json").write_text('{"commit": "abc123"}')
    (study.path / "diff.patch").write_text("+a = 1")
    parent: dict = {}
    for _ in range(2):
        tracker.log_study(study, {**STUDY, "id": "origin"}, parent)
    kept = {artifact.path for artifact in client.list_artifacts(parent["run_id"])}
    assert kept == {"origin.json", "diff.patch"}
    child = client.get_run(begin(tracker, run, parent)["run_id"])
    assert child.data.tags["mlflow.source.git.commit"] == "abc123"
