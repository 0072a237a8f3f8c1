from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import sys
import time

import psutil
import pytest

from dlsweep.errors import ConfigError, TrackerError
from dlsweep.folders.rundir import Record, Result
from dlsweep.folders.studydir import StudyDir
from dlsweep.run.checkpoint import Checkpointer
from dlsweep.trackers.base import ViewLostError
from dlsweep.trackers.wandb import WandbTracker
from dlsweep.trackers.wandb.offline import read_offline

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def no_login(monkeypatch, tmp_path):
    """Nothing of this machine's own W&B account is seen."""
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


@pytest.fixture
def tracker():
    return WandbTracker("project", mode="offline")


def folders_of(run):
    return sorted((run.path.parents[1] / "wandb").glob(f"offline-run-*-{run.info().id}*"))


def rows_of(run):
    """The history of every folder of a run, as (W&B's step, step, a)."""
    records = [record for folder in folders_of(run) for record in read_offline(folder)]
    rows = [one["history"]["item"] for one in records if one["type"] == "history"]
    return [(row["_step"], row["step"], row["a"]) for row in rows]


def records(steps):
    return [Record(step, 100.5 + step, {"a": step / 2}) for step in steps]


def described(folder):
    """What the run is, its summary and how it ended, as its file says last."""
    found = {record["type"]: record[record["type"]] for record in read_offline(folder)}
    summary: dict = {}
    for record in read_offline(folder):
        if record["type"] == "summary":
            summary |= record["summary"]["update"]
    return found["run"], summary, found["exit"]


def test_a_run_has_its_group_type_name_and_config(tracker, make_run, capfd):
    run = make_run(
        {"model": {"hidden": [8, 8]}, "token": "${oc.env:HOME}"},
        params={"training/optimizer": "adam"},
    )
    (run.path.parents[1] / "diff.patch").write_text("+a = 1")
    state: dict = {}
    tracker.start(run, {}, state)
    tracker.finish(run, Result("completed", ended=1.0), state)
    (folder,) = folders_of(run)
    about, _, _ = described(folder)
    del about["config"]["update"]["_wandb"]
    assert about["config"]["update"] == {
        "model.hidden": [8, 8],
        "token": "${oc.env:HOME}",
        "training/optimizer": "adam",
    }
    assert (about["project"], about["run_group"], about["job_type"], about["display_name"]) == (
        "project",
        "study",
        "trial",
        "0000 study optimizer=adam",
    )
    assert about["run_id"] == run.info().id
    saved = [one["files"]["files"] for one in read_offline(folder) if one["type"] == "files"]
    assert [file["path"] for files in saved for file in files] == [
        ".hydra/config.yaml",
        ".hydra/overrides.yaml",
        "diff.patch",
    ]
    assert "WARNING" not in capfd.readouterr().err
    kept = (folder / "files" / ".hydra" / "config.yaml").read_text()
    assert kept == run.config_file.read_text()


def test_a_run_that_is_no_trial_keeps_its_files_in_its_own_folder(tracker, make_run):
    run = make_run(number=None)
    state: dict = {}
    tracker.start(run, {}, state)
    tracker.finish(run, Result("completed", ended=1.0), state)
    (folder,) = (run.path / "wandb").glob("offline-run-*")
    assert described(folder)[0]["job_type"] == "run"


def test_rows_have_step_wall_time_and_odd_values(tracker, make_run):
    run = make_run()
    state: dict = {}
    tracker.start(run, {}, state)
    told = [Record(4, 100.25, {"a": 0.5}), Record(2, 101.5, {"a": float("nan"), "b/c": 1e400})]
    tracker.log(run, told, state)
    tracker.finish(run, Result("completed", ended=1.0), state)
    (folder,) = folders_of(run)
    rows = [one["history"]["item"] for one in read_offline(folder) if one["type"] == "history"]
    for row in rows:
        del row["_runtime"]
    assert rows == [
        {"_step": 0, "_timestamp": 100.25, "step": 4, "a": 0.5},
        {"_step": 1, "_timestamp": 101.5, "step": 2, "a": "NaN", "b/c": "Infinity"},
    ]
    (axis,) = [one["metric"] for one in read_offline(folder) if one["type"] == "metric"]
    assert (axis["glob_name"], axis["step_metric"]) == ("*", "step")


@pytest.mark.parametrize(("status", "code"), [("completed", 0), ("pruned", 0), ("crashed", 1)])
def test_the_summary_holds_the_objective_of_the_best_epoch(tracker, make_run, status, code):
    run = make_run()
    state: dict = {}
    tracker.start(run, {}, state)
    tracker.log(run, [Record(1, 1.0, {"a": 0.9}), Record(2, 2.0, {"a": 0.4})], state)
    tracker.finish(run, Result(status, "why", {"a": 0.9}, ended=3.0), state)
    about, summary, end = described(folders_of(run)[0])
    assert (summary["a"], summary["status"], summary["reason"]) == (0.9, status, "why")
    assert about["tags"] == [status]
    assert end.get("exit_code", 0) == code


def test_metrics_with_names_that_wandb_uses_itself_stay_apart(tracker, make_run):
    run, state = make_run(), {}
    tracker.start(run, {}, state)
    metrics = {"step": 1.5, "_step": 2.5, "_runtime": 3.5, "_timestamp": 4.5, "reason": 5.5, "a": 6}
    tracker.log(run, [Record(7, 100.5, metrics)], state)
    tracker.finish(run, Result("completed", "", metrics, 1.0, 2.0, 1.0), state)
    points = {name: (step, value) for step, name, value in tracker.read(run, state)}
    assert points == {name: (7, value) for name, value in metrics.items()}
    _, summary, _ = described(folders_of(run)[-1])
    assert [summary["metric/step"], summary["reason"]] == [1.5, ""]


def test_a_run_that_goes_on_continues_under_its_id(tracker, make_run):
    run = make_run()
    state: dict = {}
    tracker.start(run, {}, state)
    tracker.log(run, records(range(3)), state)
    tracker.finish(run, Result("killed", ended=1.0), state)
    later = WandbTracker("project", mode="offline")
    later.start(run, {}, state)
    later.log(run, records(range(3, 5)), state)
    later.finish(run, Result("completed", ended=2.0), state)
    assert len(folders_of(run)) == 2
    assert rows_of(run) == [(step, step, step / 2) for step in range(5)]
    assert {described(folder)[0]["run_id"] for folder in folders_of(run)} == {run.info().id}


def test_rows_lost_in_a_kill_are_found_missing_and_written_again(tracker, make_run):
    run = make_run()
    code = (
        "import json, psutil, sys, time; from dlsweep.folders.rundir import Record, RunDir;"
        "from dlsweep.trackers.wandb import WandbTracker;"
        "run, state = RunDir(sys.argv[1]), {};"
        "tracker = WandbTracker('project', mode='offline');"
        "tracker.start(run, {}, state);"
        "[child.suspend() for child in psutil.Process().children()];"  # so that nothing is written
        "tracker.log(run, [Record(k, 1.0, {'a': k}) for k in range(50)], state);"
        "print(json.dumps(state), flush=True); time.sleep(60)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(run.path)],
        stdout=subprocess.PIPE,
        text=True,
        env={name: v for name, v in os.environ.items() if name != "WANDB_SERVICE"},
    )
    assert process.stdout
    state = json.loads(process.stdout.readline())
    for one in [process, *psutil.Process(process.pid).children()]:
        one.kill()
    process.communicate()
    assert state == {"mode": "offline", "rows": 50}
    assert len(rows_of(run)) < 50
    with pytest.raises(ViewLostError, match=r"and no end. Expected 50"):
        tracker.start(run, {}, state)
    fresh: dict = {}
    tracker.start(run, {}, fresh)
    tracker.log(run, records(range(50)), fresh)
    tracker.finish(run, Result("completed", ended=1.0), fresh)
    assert rows_of(run) == [(step, step, step / 2) for step in range(50)]
    tracker.start(run, {}, fresh)


def test_a_tracker_that_failed_leaves_its_run_to_the_next(tracker, make_run):
    run = make_run()
    state: dict = {}
    tracker.start(run, {}, state)
    tracker.log(run, records(range(2)), state)
    later = WandbTracker("project", mode="offline")
    later.start(run, {}, state)
    later.log(run, records(range(2, 4)), state)
    later.finish(run, Result("completed", ended=1.0), state)
    assert rows_of(run) == [(step, step, step / 2) for step in range(4)]


def test_a_run_that_was_told_in_the_other_mode_is_told_again(tracker, make_run):
    with pytest.raises(ViewLostError, match=r"synced online. Expected offline"):
        tracker.start(make_run(), {}, {"mode": "online", "rows": 3})


def test_without_a_key_it_is_offline(tmp_path, monkeypatch):
    assert WandbTracker("p").mode == "offline"
    assert WandbTracker("p").view == "wandb leet {folder}/wandb"
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password k\n")
    assert WandbTracker("p").mode == "online"
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert WandbTracker("p").mode == "offline"


def test_going_online_without_a_key_says_what_to_type():
    with pytest.raises(
        TrackerError, match=r"no key for api.wandb.ai.\nType  wandb login\nOr write"
    ):
        WandbTracker("p", mode="online").check()


def test_a_server_that_is_away_is_said_at_once(monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    begun = time.monotonic()
    with pytest.raises(TrackerError, match=f"127.0.0.1:{port} does not answer: .*refused"):
        WandbTracker("p").check()
    assert time.monotonic() - begun < 1


def test_another_mode_is_refused():
    with pytest.raises(ConfigError, match=r"mode: Received 'disabled'. Expected 'online'"):
        WandbTracker("p", mode="disabled")


def test_making_and_checking_one_imports_no_wandb():
    code = (
        "import sys; from dlsweep.trackers.wandb import WandbTracker;"
        "WandbTracker('p', mode='offline').check(); print([m for m in sys.modules if m == 'wandb'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_images_histograms_texts_and_tables_are_shown_as_such(tracker, rich_run):
    run, records = rich_run
    state: dict = {}
    tracker.start(run, {}, state)
    tracker.log(run, records, state)
    tracker.finish(run, Result("completed", ended=1.0), state)
    (folder,) = folders_of(run)
    rows = [one["history"]["item"] for one in read_offline(folder) if one["type"] == "history"]
    told = {name: one for row in rows for name, one in row.items()}
    kinds = {name: told[f"{name}._type"] for name in ("val/examples", "weights", "sample", "wrong")}
    assert kinds == {
        "val/examples": "image-file",
        "weights": "histogram",
        "sample": "table-file",
        "wrong": "table-file",
    }
    image = folder / "files" / told["val/examples.path"]
    assert image.read_bytes() == run.media_file("val/examples", 1).read_bytes()
    table = json.loads((folder / "files" / told["wrong.path"]).read_text())
    assert (table["columns"], table["data"]) == (["id", "label"], [[3, "a|b"], [4, None]])
    assert sum(told["weights.values"]) == 4
    assert len(rows) == 5


@pytest.mark.parametrize(("keep", "aliases"), [("last", ["latest"]), ("best", ["best", "latest"])])
def test_the_log_and_the_checkpoint_are_kept(make_run, keep, aliases):
    run = make_run()
    run.log_file.write_text("epoch 1\nepoch 2\n")
    checkpoints = Checkpointer(run.checkpoints, run=run.info().id)
    checkpoints.save(1, lambda folder: (folder / "w").write_text("weights"))
    tracker = WandbTracker("project", mode="offline", checkpoint=keep)
    state: dict = {}
    tracker.start(run, {}, state)
    tracker.finish(run, Result("completed", ended=1.0), state)
    (folder,) = folders_of(run)
    records = list(read_offline(folder))
    text = "".join(json.dumps(one) for one in records if one["type"].startswith("output"))
    assert "epoch 1" in text
    assert "epoch 2" in text
    (artifact,) = [one["artifact"] for one in records if one["type"] == "artifact"]
    assert (artifact["type"], artifact["name"]) == ("model", f"checkpoint-{run.info().id}")
    assert sorted(artifact["aliases"]) == aliases
    assert list(tracker.missing(run, Result("completed"), state)) == []
    digest = hashlib.sha256(b"weights").hexdigest()
    assert digest in json.dumps(artifact)


def test_an_ended_study_has_the_best_value_over_its_trials_in_a_run_of_its_own(make_run):
    study = StudyDir(make_run().path.parents[1])
    info = {"id": "5e", "name": "study", "objective": ["a"], "directions": ["minimize"]}
    state: dict = {}
    for finished, values in ((None, []), (9.0, [0.5, 0.75]), (9.5, [0.5, 0.75]), (12.0, [0.25])):
        for value in values:
            run = make_run(name=f"{len(list(study.trials.glob('*/result.json'))):04d}")
            if finished != 9.5:  # nothing new
                run.write_result(Result("completed", metrics={"a": value}, ended=1.0))
        end = {"finished": finished} if finished else {}
        WandbTracker("project", mode="offline").log_study(study, {**info, **end}, state)
        state = json.loads(json.dumps(state))
    (folder,) = (study.path / "wandb").glob("offline-run-*")
    rows = [one["history"]["item"] for one in read_offline(folder) if one["type"] == "history"]
    assert [(row["_step"], row["trial"], row["best/a"]) for row in rows] == [
        (0, 0, 0.5),
        (1, 1, 0.5),
        (2, 2, 0.25),
    ]
    about, _, _ = described(folder)
    assert (about["run_group"], about["job_type"], about["display_name"]) == (
        "study",
        "study",
        "study best",
    )
