"""The dashboards, started as a user does and asked over HTTP."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import optuna
import pytest

from dlsweep.cli.ui import find_dashboards
from dlsweep.errors import ConfigError
from dlsweep.folders.rundir import RunDir
from dlsweep.folders.studydir import StudyDir
from dlsweep.results.report.live import Reports
from dlsweep.security import addresses
from dlsweep.trackers import mirror

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning"),
]


@pytest.fixture
def study(make_run: Callable[..., RunDir], tmp_path: Path) -> Path:
    """A study of two trials, in all trackers that have a dashboard."""
    for name in ("0000", "0001"):
        run = make_run({"lr": 0.1}, name=name, params={"lr": 0.1})
        lines = (
            f'{{"step": {k}, "time": {k}, "metrics": {{"val/accuracy": 0.{k}}}}}' for k in (1, 2)
        )
        run.records_file.write_text("".join(f"{line}\n" for line in lines))
    folder = StudyDir(run.path.parents[1])
    storage = f"sqlite:///{folder.database}"
    optuna.create_study(study_name="study", storage=storage)
    info = {
        "id": "5",
        "name": "study",
        "storage": storage,
        "objective": ["val/accuracy"],
        "directions": ["maximize"],
        "created": 1.0,
        "n_trials": 1,
        "command": ["python"],
        "tracking": {
            "mlflow": {
                "_target_": "dlsweep.trackers.mlflow.MLflowTracker",
                "tracking_uri": f"sqlite:///{tmp_path}/outputs/mlflow.db",
            },
            "tensorboard": {"_target_": "dlsweep.trackers.tensorboard.TensorBoardTracker"},
        },
    }
    folder.info_file.write_text(json.dumps(info))
    return folder.path


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str, **env: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "dlsweep", "ui", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **env},
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.terminate()
        process.communicate(timeout=30)


def test_all_dashboards_open_together_and_end_at_ctrl_c(study: Path, start) -> None:
    mirror.sync(study)
    process = start("--folder", str(study.parent))
    assert process.stdout
    lines = [process.stdout.readline() for _ in range(5)]
    assert lines[4] == "Ctrl-C stops them.\n", lines
    addresses = {name: line.split()[-1] for line in lines[:4] for name in [line.split()[0]]}
    assert addresses.keys() == {"report", "mlflow", "tensorboard", "optuna"}
    assert all(address.startswith("http://127.0.0.1:") for address in addresses.values())
    assert "<title>study</title>" in get(addresses["report"])
    assert "<title>MLflow</title>" in get(addresses["mlflow"])
    assert json.loads(get(f"{addresses['tensorboard']}/data/runs")) == [
        "study/tensorboard/0000",
        "study/tensorboard/0001",
    ]
    assert "study" in get(f"{addresses['optuna']}/api/studies")
    assert_opens_on_the_study(addresses["mlflow"], study)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 0
    for address in addresses.values():
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", urlsplit(address).port)) != 0


def assert_opens_on_the_study(address: str, study: Path) -> None:
    """Opens the printed address in a browser, where there is one: the study's trials, as charts."""
    assert "/#/experiments/1/runs?searchFilter=tags.mlflow.parentRunId" in address
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        return
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=30000"]
    done = subprocess.run(
        [browser, *flags, f"--user-data-dir={study}/browser", "--dump-dom", address],
        capture_output=True,
        text=True,
        timeout=120,
    )
    for expected in (
        "0000 study lr=0.1",
        "0001 study lr=0.1",
        "val/accuracy",
        "Search metric charts",
    ):
        assert expected in done.stdout


def trials(study: Path) -> list[Path]:
    return sorted((study / "trials").iterdir())


def get(address: str) -> str:
    with urllib.request.urlopen(address, timeout=60) as answer:
        return answer.read().decode()


def test_one_that_does_not_start_says_why_and_ends_the_others(study: Path, start) -> None:
    (study / "study.db").write_text("no database")
    (study / "tensorboard").mkdir()
    process = start("optuna", "tensorboard", "--folder", str(study))
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "optuna study did not start:" in output
    assert "StorageInternalError" in output


def test_a_server_that_runs_elsewhere_is_only_named(study: Path) -> None:
    info = json.loads((study / "study.json").read_text())
    info["tracking"]["mlflow"]["tracking_uri"] = "http://host:5000"
    (study / "study.json").write_text(json.dumps(info))
    addresses.remember(info, study)  # as the sweep did
    (dashboard,) = find_dashboards(study, ["mlflow"])
    assert (dashboard.address, dashboard.page, dashboard.command) == ("http://host:5000", "", [])


def test_mlflow_opens_on_one_study_on_one_run_or_at_its_front(study: Path, make_run) -> None:
    info = json.loads((study / "study.json").read_text())
    state = {"run_id": "r1", "experiment": "7"}
    position = {"options": info["tracking"]["mlflow"], "state": state}
    (study / "mirror").mkdir()
    (study / "mirror" / "mlflow.json").write_text(json.dumps(position))
    for folder in (study, study.parent):
        (dashboard,) = find_dashboards(folder, ["mlflow"])
        assert dashboard.page.startswith("/#/experiments/7/runs?searchFilter=tags.mlflow.parent")
        assert "'r1'" in unquote(dashboard.page)
        assert "orderByKey=metrics.%60result%2Fval%2Faccuracy%60&orderByAsc=false" in dashboard.page
    run = make_run(name="0009", number=None, tracking={"mlflow": info["tracking"]["mlflow"]})
    run.mirror_file("mlflow").parent.mkdir()
    run.mirror_file("mlflow").write_text(json.dumps(position))
    (dashboard,) = find_dashboards(run.path, ["mlflow"])
    assert dashboard.page == "/#/experiments/7/runs/r1"
    shutil.copytree(study, study.parent / "other")
    (dashboard,) = find_dashboards(study.parent, ["mlflow"])
    assert dashboard.page == ""


def test_reports_are_served_to_this_machines_own_pages_alone(tmp_path: Path, study: Path) -> None:
    server = Reports(study.parent, 0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    try:
        assert server.server_address[0] == "127.0.0.1"
        assert json.loads(get(f"{address}/study/data"))["studies"][0]["name"] == "study"
        for path in ("/other", "/study/trials", "/study/../../etc/passwd"):
            assert status(f"{address}{path}") == 404
        assert status(f"{address}/study", Host="elsewhere.example:80") == 403
        (study / "study.json").write_text("{")
        assert status(f"{address}/study/data") == 500
        (study.parent / "<b>").mkdir()
        (study.parent / "<b>" / "study.json").write_text("{}")
        assert '<a href="/%3Cb%3E">&lt;b&gt;</a>' in get(f"{address}/")
    finally:
        server.shutdown()
        server.server_close()


def status(address: str, **headers: str) -> int:
    try:
        with urllib.request.urlopen(urllib.request.Request(address, headers=headers)) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def test_a_tool_that_holds_nothing_is_refused(study: Path, tmp_path: Path) -> None:
    del_tracking = {**json.loads((study / "study.json").read_text()), "tracking": {}}
    (study / "study.json").write_text(json.dumps(del_tracking))
    with pytest.raises(ConfigError, match="has nothing for mlflow"):
        find_dashboards(study, ["mlflow"])
    with pytest.raises(ConfigError, match="contains no study and no runs"):
        find_dashboards(tmp_path / "elsewhere")


def test_an_unknown_tool_is_refused(start) -> None:
    output, _ = start("mlfow").communicate(timeout=60)
    assert "Received 'mlfow'. Expected report, mlflow, tensorboard, optuna." in output
