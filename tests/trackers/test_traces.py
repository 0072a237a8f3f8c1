"""What ``training.profiler`` has written reaches every tracker, once."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from dlsweep.folders.rundir import Result, RunDir
from dlsweep.trackers.mlflow.tracker import MLflowTracker
from dlsweep.trackers.tensorboard import TensorBoardTracker
from dlsweep.trackers.traces import trace_files
from dlsweep.trackers.wandb import WandbTracker
from dlsweep.trackers.wandb.offline import read_offline

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning"),
]

PLUGIN = "plugins/profile/2026_01_01_00_00_00/host.xplane.pb"
END = Result("completed", ended=1.0)


@pytest.fixture
def torch_run(make_run: Callable[..., RunDir]) -> RunDir:
    run = make_run()
    (run.path / "profile").mkdir()
    (run.path / "profile" / "trace.json").write_text('{"traceEvents": []}')
    (run.path / "profile" / "operations.txt").write_text("aten::addmm")
    return run


@pytest.fixture
def keras_run(make_run: Callable[..., RunDir]) -> RunDir:
    run = make_run(name="0001")
    file = run.path / "profile" / "train" / PLUGIN
    file.parent.mkdir(parents=True)
    file.write_bytes(b"planes")
    (run.path / "profile" / "train" / "events.out.tfevents.1.host.v2").write_bytes(b"metrics")
    return run


def tell(tracker, run: RunDir, times: int = 2) -> dict:
    state: dict = {}
    tracker.start(run, {}, state)
    for _ in range(times):
        tracker.finish(run, END, state)
    return state


def test_mlflow_keeps_it_as_artifacts(torch_run, keras_run, tmp_path: Path) -> None:
    from mlflow.tracking import MlflowClient

    tracker = MLflowTracker(f"sqlite:///{tmp_path}/mlflow.db")
    client = MlflowClient(tracker.uri)
    state = tell(tracker, torch_run)
    kept = [artifact.path for artifact in client.list_artifacts(state["run_id"], "profile")]
    assert sorted(kept) == ["profile/operations.txt", "profile/trace.json"]
    assert list(tracker.missing(torch_run, END, state)) == []
    state = tell(tracker, keras_run)
    folder = os.path.dirname(f"profile/train/{PLUGIN}")
    (found,) = client.list_artifacts(state["run_id"], folder)
    assert (found.path, found.file_size) == (f"profile/train/{PLUGIN}", 6)
    next((tmp_path / "mlartifacts").rglob("host.xplane.pb")).write_bytes(b"plan")
    (said,) = tracker.missing(keras_run, END, state)
    assert said == f"the artifact profile/train/{PLUGIN} has 4 bytes, and the file 6"


def test_tensorboard_finds_it_where_its_pages_look(torch_run, keras_run) -> None:
    tracker, folder = TensorBoardTracker(), torch_run.path.parents[1] / "tensorboard"
    state = tell(tracker, torch_run)
    assert (folder / "0000" / "trace.pt.trace.json").read_text() == '{"traceEvents": []}'
    state = tell(tracker, keras_run)
    assert (folder / "0001" / PLUGIN).read_bytes() == b"planes"
    assert list(tracker.missing(keras_run, END, state)) == []
    (folder / "0001" / PLUGIN).write_bytes(b"")
    (said,) = tracker.missing(keras_run, END, state)
    assert said == "the trace host.xplane.pb is missing, or of another size"
    tracker.remove(keras_run, state)
    assert not [path for path in (folder / "0001").rglob("*") if path.is_file()]


def test_wandb_keeps_it_as_an_artifact_of_type_profile(
    torch_run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    tracker = WandbTracker("project", mode="offline")
    state = tell(tracker, torch_run)
    (artifact,) = wandb_artifacts(torch_run)
    assert artifact["type"] == "profile"
    names = [entry["path"] for entry in artifact["manifest"]["contents"]]
    assert names == ["operations.txt", "trace.pt.trace.json"]
    assert list(tracker.missing(torch_run, END, state)) == []
    for folder in (torch_run.path.parents[1] / "wandb").glob("offline-run-*"):
        for file in folder.glob("*.wandb"):
            file.unlink()
    (said,) = tracker.missing(torch_run, END, state)
    assert said == f"the artifact trace-{torch_run.info().id} is missing"


def wandb_artifacts(run: RunDir) -> list[dict]:
    folders = (run.path.parents[1] / "wandb").glob(f"offline-run-*-{run.info().id}*")
    records = [record for folder in folders for record in read_offline(folder)]
    return [one["artifact"] for one in records if one["type"] == "artifact"]


def test_a_link_is_no_trace(make_run: Callable[..., RunDir], tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("theirs")
    run = make_run()
    (run.path / "profile").mkdir()
    (run.path / "profile" / "trace.json").symlink_to(tmp_path / "secret")
    assert trace_files(run) == {}
    other = make_run(name="0001")
    (other.path / "profile").symlink_to(run.path / "profile")
    assert trace_files(other) == {}
