"""A folder of results that was moved or copied: every verb works on it, and on nothing else."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from dlsweep.cli.ui import find_dashboards

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning"),
]

SWEEP = ("+experiment=quadratic", "tracking=[mlflow,csv]", "training.steps=2")
SAME = "The study, its folders and its trackers agree.\n"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The place of a project; its first test fills it."""
    return tmp_path_factory.mktemp("made")


@pytest.fixture
def origin(project, made: Path) -> Path:
    """The results of a sweep of two trials and of a single run, made once."""
    if not (made / "outputs").exists():
        there = type(project)(made)
        there.run(*SWEEP, "hydra.sweeper.n_trials=2", "-m")
        there.run(*SWEEP, "training.x=1", "hydra.run.dir=outputs/quadratic/runs/one")
    return made / "outputs"


@pytest.fixture
def outputs(request, project, origin: Path) -> Iterator[Path]:
    """The same results in the current project; the original is gone, or must stay as it is."""
    shutil.copytree(origin, project.path / "outputs")
    if request.param == "moved":
        aside = origin.rename(origin.with_name("aside"))
        yield project.path / "outputs"
        assert not origin.exists(), "something was written to the old place"
        aside.rename(origin)
    else:
        before = contents(origin)
        yield project.path / "outputs"
        assert contents(origin) == before


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def make_older(outputs: Path, place: Path) -> None:
    """Gives the records absolute paths, as dlsweep wrote them once."""
    for file in outputs.rglob("*.json"):
        record = json.loads(file.read_text())
        tracking = record.get("tracking", {}).get("mlflow") or record.get("options", {})
        if "tracking_uri" in tracking:
            assert tracking["tracking_uri"].startswith("sqlite:///..")
            tracking["tracking_uri"] = f"sqlite:///{place}/mlflow.db"
            file.write_text(json.dumps(record))


@pytest.mark.parametrize(
    ("outputs", "records"), [("moved", "today's"), ("copied", "older")], indirect=["outputs"]
)
def test_every_verb_works_in_the_new_place(project, origin: Path, outputs: Path, records) -> None:
    study = outputs / "quadratic"
    if records == "older":
        make_older(outputs, origin)
    assert f"All trials:  {study / 'trials.csv'}" in project.run("report", "outputs/quadratic")
    (dashboard,) = find_dashboards(outputs, ["mlflow"])
    assert f"sqlite:///{outputs}/mlflow.db" in dashboard.command
    assert project.run("verify", "outputs/quadratic") == SAME
    none_new = "csv: 0 new records\nmlflow: 0 new records\n"
    assert project.run("sync", "outputs/quadratic") == none_new
    assert len(artifacts(outputs)) == 3

    said = project.run(*SWEEP, "hydra.sweeper.n_trials=3", "-m")
    assert "[3/3] 0002 completed" in said
    assert len(artifacts(outputs)) == 4
    assert project.run("verify", "outputs/quadratic") == SAME
    tracking = json.loads((study / "study.json").read_text())["tracking"]
    assert tracking["mlflow"]["tracking_uri"] == "sqlite:///../mlflow.db"


#: Prints the folder and the log of each run; a process of its own has no cached places.
READ = """
import json, pathlib, sys, tempfile
from mlflow.tracking import MlflowClient

client = MlflowClient(sys.argv[1])
experiment = client.get_experiment_by_name("dlsweep").experiment_id
with tempfile.TemporaryDirectory() as place:
    for run in client.search_runs([experiment]):
        if "mlflow.parentRunId" in run.data.tags or "runs/" in run.data.tags["dlsweep.folder"]:
            file = client.download_artifacts(run.info.run_id, "log.txt", place)
            folder = run.data.tags["dlsweep.folder"]
            text = pathlib.Path(file).read_text()
            print(json.dumps([folder, run.info.artifact_uri, text, run.info.run_id]))
"""


def artifacts(outputs: Path) -> list[str]:
    """Downloads the log of every run but the study's; returns the runs' ids."""
    command = [sys.executable, "-c", READ, f"sqlite:///{outputs}/mlflow.db"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    runs = [json.loads(line) for line in done.stdout.splitlines()]
    for folder, place, text, _ in runs:
        assert place.startswith(f"{outputs.as_uri()}/mlartifacts/")
        assert Path(folder).is_relative_to(outputs)
        assert (Path(folder) / "log.txt").read_text() == text
    return [run_id for *_, run_id in runs]


@pytest.mark.parametrize("outputs", ["copied"], indirect=True)
def test_the_move_is_said_once(project, outputs: Path, origin: Path) -> None:
    said = project.run("sync", "outputs/quadratic", "mlflow")
    moved = f"{outputs}/mlflow.db has moved from {origin}: MLflow finds its artifacts here again.\n"
    assert said == f"{moved}mlflow: 0 new records\n"
    assert project.run("sync", "outputs/quadratic", "mlflow") == "mlflow: 0 new records\n"


@pytest.mark.parametrize("outputs", ["moved"], indirect=True)
def test_mlflow_s_page_opens_the_artifacts(project, outputs: Path) -> None:
    process = project.start("ui", "mlflow", "--folder", "outputs")
    try:
        lines = [process.stdout.readline() for _ in range(2)]
        assert "has moved from" in lines[0], lines
        address, _, _ = lines[1].split()[-1].partition("/#/")
        for run_id in artifacts(outputs):
            page = f"{address}/get-artifact?path=config.yaml&run_uuid={run_id}"
            with urllib.request.urlopen(page, timeout=60) as answer:
                assert b"steps: 2" in answer.read()
    finally:
        process.terminate()
        process.communicate(timeout=30)


def test_a_run_is_resumed_in_the_new_place(project, read_result) -> None:
    alone = (*SWEEP, "training.steps=40", "training.seconds=0.1", "hydra.run.dir=outputs/a/runs/b")
    process = project.start(*alone)
    run = project.path / "outputs" / "a" / "runs" / "b"
    while not (run / "records.jsonl").exists() and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert read_result(run)["status"] == "interrupted"
    moved = type(project)(project.path / "moved")
    moved.path.mkdir()
    (project.path / "outputs").rename(moved.path / "outputs")
    moved.run("resume", "outputs/a/runs/b")
    assert read_result(moved.path / "outputs" / "a" / "runs" / "b")["status"] == "completed"
    assert moved.run("verify", "outputs/a/runs/b") == SAME
    assert not (project.path / "outputs").exists()
    assert len(artifacts(moved.path / "outputs")) == 1


def test_a_study_without_its_mlflow_file_gets_a_new_one_beside_it(project, origin: Path) -> None:
    before = contents(origin)
    shutil.copytree(origin / "quadratic", project.path / "outputs" / "quadratic")
    assert "mlflow: " in project.run("sync", "outputs/quadratic")
    assert len(artifacts(project.path / "outputs")) == 3
    assert project.run("verify", "outputs/quadratic") == SAME
    make_older(project.path / "outputs", origin)
    (project.path / "outputs" / "mlflow.db").unlink()
    said = project.run("sync", "outputs/quadratic", code=1)
    assert f"names tracking.mlflow.tracking_uri=sqlite:///{origin}/mlflow.db, which no" in said
    assert not (project.path / "outputs" / "mlflow.db").exists()
    assert contents(origin) == before


def test_a_received_study_reaches_no_further_than_the_folder_it_lies_in(
    project, origin: Path
) -> None:
    study = project.path / "downloads" / "quadratic"
    shutil.copytree(origin / "quadratic", study)
    for record in (study / "study.json", *study.glob("trials/*/run.json")):
        text = record.read_text()
        record.write_text(text.replace("mlflow.db", "../../mlflow.db"))
    for words in ("sync", "verify", "ui mlflow --folder", "resume"):
        path = study / "trials" / "0000" if words == "resume" else study
        if words == "resume":
            (path / "result.json").unlink()
        said = project.run(*words.split(), str(path), code=1)
        assert "which no command of yours has named" in said, words
    assert not list(project.path.parent.glob("*.db*"))
    assert not list(project.path.glob("*.db*"))
