"""A real MLflow server that goes away under the mirror and comes back."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dlsweep.folders.rundir import Result, RunDir
from dlsweep.folders.studydir import StudyDir
from dlsweep.run.checkpoint import Checkpointer
from dlsweep.trackers.exports import ExportedVersion
from dlsweep.trackers.mlflow.tracker import MLflowTracker

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning"),
]


class Server:
    """``mlflow server`` on a port of its own, with its files in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        files = f"{self.folder}/artifacts"
        stores = ["--backend-store-uri", f"sqlite:///{self.folder}/server.db"]
        stores += ["--artifacts-destination", files]
        where = ["--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", *stores, *where],
            env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def stop(self) -> None:
        if self.process:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def rows(self, query: str) -> list[tuple]:
        with sqlite3.connect(self.folder / "server.db") as connection:
            rows = connection.execute(query).fetchall()
        connection.close()
        return rows


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    yield server
    server.stop()


def log(run: RunDir, steps: range) -> None:
    with run.records_file.open("a") as file:
        for step in steps:
            record = {"step": step, "time": float(step), "metrics": {"a": step}}
            file.write(json.dumps(record) + "\n")


def test_a_server_that_goes_and_comes_back_is_told_everything_once(
    server: Server, make_run: Callable[..., RunDir]
) -> None:
    options = {
        "_target_": "dlsweep.trackers.mlflow.MLflowTracker",
        "tracking_uri": f"http://127.0.0.1:{server.port}",
    }
    run = make_run({"lr": 0.1}, number=None, tracking={"mlflow": options})
    server.start()
    wait_for_port(server.port)
    code = f"from dlsweep.trackers.mirror import main; exit(main({str(run.path)!r}, [], 1))"
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    ready = json.loads(process.stdout.readline())
    ((run_id,),) = server.rows("SELECT run_uuid FROM runs")
    assert ready["view"] == f"{options['tracking_uri']}/#/experiments/1/runs/{run_id}"
    log(run, range(5))
    wait_for(lambda: len(server.rows("SELECT step FROM metrics")) == 5)
    server.stop()
    log(run, range(5, 10))
    run.write_result(Result("completed", ended=20.0))
    time.sleep(2)
    server.start()
    wait_for_port(server.port)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert said.count("behind") == said.count("does not answer") == 1, said
    assert len(said.splitlines()) == 2, said
    assert sorted(server.rows("SELECT step FROM metrics")) == [(step,) for step in range(10)]
    assert server.rows("SELECT name, status FROM runs") == [("0000 study", "FINISHED")]
    assert list(server.folder.glob("artifacts/**/config.yaml"))


def test_a_server_keeps_and_registers_a_model(
    server: Server, make_run: Callable[..., RunDir]
) -> None:
    run = make_run({"model": {"_target_": "mine.Net"}}, number=None)
    (run.path / "data.json").write_text('{"input_shape": [2], "input_dtype": "float32"}')
    checkpoints = Checkpointer(run.checkpoints, run=run.info().id)
    checkpoints.save(1, lambda folder: (folder / "w").write_text("weights"))
    server.start()
    wait_for_port(server.port)
    tracker = MLflowTracker(f"http://127.0.0.1:{server.port}", registered_model_name="mine")
    result, state = Result("completed", metrics={"val/accuracy": 0.5}), {}
    tracker.start(run, {}, state)
    for _ in range(2):
        tracker.finish(run, result, state)
    assert list(tracker.missing(run, result, state)) == []
    about = {"id": "5", "name": "study", "created": 1.0, "n_trials": 1}
    goal = {"objective": ["val/accuracy"], "directions": ["maximize"]}
    tracker.log_study(StudyDir(run.path.parents[1]), {**about, **goal}, {})
    page = f"http://127.0.0.1:{server.port}/#/experiments/1/runs?searchFilter=tags.mlflow.parent"
    assert tracker.view.startswith(page)
    assert server.rows("SELECT name, alias, version FROM registered_model_aliases") == [
        ("mine", "best", 1)
    ]
    (weights,) = server.folder.glob("artifacts/*/models/*/artifacts/data/checkpoints/*/w")
    assert weights.read_text() == "weights"


def test_a_server_registers_an_export(
    server: Server, make_run: Callable[..., RunDir], tmp_path: Path
) -> None:
    run, folder = make_run(), tmp_path / "exports" / "mine" / "onnx" / "1"
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_text("weights")
    inputs = [{"name": "inputs", "dtype": "uint8", "shape": [1, 28, 28]}]
    record = {"name": "mine", "format": "onnx", "quantization": None, "inputs": inputs}
    parity = {"largest_difference": 1e-7, "mean_difference": 1e-8, "agreement": None}
    facts = {"runtime": "onnxruntime 1", "size_bytes": 7, "examples": 30, "tolerance": 1e-4}
    created = {"created": "2026-11-01T00:00:00Z"}
    (folder / "export.json").write_text(json.dumps({**record, **created}))
    (folder / "parity.json").write_text(json.dumps({**parity, **facts}))
    server.start()
    wait_for_port(server.port)
    tracker, state = MLflowTracker(f"http://127.0.0.1:{server.port}"), {}
    tracker.start(run, {}, state)
    for _ in range(2):
        found = tracker.register(run, ExportedVersion(folder), "mine", "champion", state)
        assert found == "models:/mine@champion, version 1"
    assert server.rows("SELECT name, alias, version FROM registered_model_aliases") == [
        ("mine", "champion", 1)
    ]
    assert server.rows("SELECT run_id FROM model_versions") == [(state["run_id"],)]
    metrics = server.rows("SELECT metric_name, metric_value FROM logged_model_metrics")
    assert sorted(metrics) == [
        ("parity/largest_difference", 1e-7),
        ("parity/mean_difference", 1e-8),
    ]
    (model,) = server.folder.glob("artifacts/*/models/*/artifacts/model.onnx")
    assert model.read_text() == "weights"


def wait_for_port(port: int) -> None:
    def answers() -> bool:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            return False
        return True

    wait_for(answers)


def wait_for(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.1)
