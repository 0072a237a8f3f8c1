"""What every tracker must do: hold each record once, whatever happened to the mirror."""

from __future__ import annotations

import csv
import itertools
import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dlsweep.folders.rundir import Result, RunDir
from dlsweep.trackers import mirror
from dlsweep.trackers.wandb.offline import read_offline

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning"),
]

#: (step, metric, value), sorted, of each trial.
Points = dict[str, list[tuple[int, str, float]]]

OWN_TRACKERS = Path(__file__).parents[1] / "trackers" / "mirror"


class Lines:
    """A user's own tracker."""

    def __init__(self, folder: Path) -> None:
        self.view = folder / "lines"
        self.view.mkdir()
        self.options = {"_target_": "line_tracker.LineTracker", "folder": str(self.view)}

    def read(self, study: Path) -> Points:
        return {
            file.stem: sorted(tuple(json.loads(line)) for line in file.read_text().splitlines())
            for file in self.view.glob("*.txt")
        }

    def delete(self, study: Path) -> None:
        for file in self.view.glob("*"):
            file.unlink()


class TensorBoard:
    def __init__(self, folder: Path) -> None:
        self.options = {"_target_": "dlsweep.trackers.tensorboard.TensorBoardTracker"}

    def read(self, study: Path) -> Points:
        trials = (path for path in (study / "tensorboard").glob("*") if path.is_dir())
        return {path.name: self._read_one(path) for path in trials}

    def _read_one(self, path: Path) -> list[tuple[int, str, float]]:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        events = EventAccumulator(str(path), size_guidance={"scalars": 0})
        events.Reload()
        return sorted(
            (event.step, tag, round(event.value, 5))
            for tag in events.Tags()["scalars"]
            if not tag.startswith("result/")
            for event in events.Scalars(tag)
        )

    def delete(self, study: Path) -> None:
        shutil.rmtree(study / "tensorboard")


class MLflow:
    def __init__(self, folder: Path) -> None:
        self.database = folder / "mlflow.db"
        self.options = {
            "_target_": "dlsweep.trackers.mlflow.MLflowTracker",
            "tracking_uri": f"sqlite:///{self.database}",
        }

    def read(self, study: Path) -> Points:
        with sqlite3.connect(self.database) as connection:
            trials = connection.execute(
                "SELECT substr(r.name, 1, 4), r.run_uuid FROM runs r JOIN tags t USING (run_uuid)"
                " WHERE t.key = 'mlflow.parentRunId' AND r.lifecycle_stage = 'active'"
            ).fetchall()
            rows = {
                name: connection.execute(
                    "SELECT step, key, value FROM metrics"
                    " WHERE run_uuid = ? AND key NOT LIKE 'result/%'",
                    [run_id],
                ).fetchall()
                for name, run_id in trials
            }
        connection.close()
        assert len(rows) == len(trials), "a trial has two runs"
        return {name: sorted(points) for name, points in rows.items()}

    def delete(self, study: Path) -> None:
        for file in self.database.parent.glob("mlflow.db*"):
            file.unlink()


class Wandb:
    def __init__(self, folder: Path) -> None:
        self.options = {
            "_target_": "dlsweep.trackers.wandb.WandbTracker",
            "project": "p",
            "mode": "offline",
        }

    def read(self, study: Path) -> Points:
        names = {RunDir(path).info().id: path.name for path in (study / "trials").iterdir()}
        points: Points = {}
        for folder in (study / "wandb").glob("offline-run-*"):
            name = names.get(folder.name.split("-")[3])
            if name is None:  # the study's own run
                continue
            told = points.setdefault(name, [])
            told += self._read_one(folder)
        return {name: sorted(told) for name, told in points.items()}

    def _read_one(self, folder: Path) -> Iterator[tuple[int, str, float]]:
        for record in read_offline(folder):
            if record["type"] == "history":
                row = record["history"]["item"]
                names = (name for name in row if name != "step" and not name.startswith("_"))
                yield from ((row["step"], name, float(row[name])) for name in names)

    def delete(self, study: Path) -> None:
        shutil.rmtree(study / "wandb")


class CSV:
    def __init__(self, folder: Path) -> None:
        self.options = {"_target_": "dlsweep.trackers.csv.CSVTracker"}

    def read(self, study: Path) -> Points:
        return {file.stem: self._read_one(file) for file in (study / "csv").glob("*.csv")}

    def _read_one(self, file: Path) -> list[tuple[int, str, float]]:
        with file.open() as lines:
            table = list(csv.DictReader(lines))
        return sorted((int(row["step"]), row["metric"], float(row["value"])) for row in table)

    def delete(self, study: Path) -> None:
        shutil.rmtree(study / "csv")


Kind = Lines | TensorBoard | MLflow | Wandb | CSV


@pytest.fixture(
    params=[Lines, TensorBoard, MLflow, Wandb, CSV],
    ids=["lines", "tensorboard", "mlflow", "wandb", "csv"],
)
def tracker(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Kind:
    monkeypatch.syspath_prepend(str(OWN_TRACKERS))
    return request.param(tmp_path)


@pytest.fixture
def study(tmp_path: Path, tracker: Kind) -> Path:
    """A study's folder, as its driver writes it."""
    path = tmp_path / "outputs" / "study"
    path.mkdir(parents=True)
    _write_study(path, tracking={"kind": tracker.options})
    return path


def _write_study(path: Path, **fields: object) -> None:
    file = path / "study.json"
    info = {
        "id": "5",
        "name": "study",
        "objective": ["val/accuracy"],
        "directions": ["maximize"],
        "created": time.time(),
        "n_trials": 3,
    }
    old = json.loads(file.read_text()) if file.exists() else info
    aside = path / "study.aside"
    aside.write_text(json.dumps({**old, **fields}))
    aside.replace(file)


def _train(run: RunDir, records: int) -> None:
    """Appends records and system metrics as a trial does, and says how it ended."""
    for step in range(records):
        _append(run, step)
    _end(run)


def _append(run: RunDir, step: int) -> None:
    metrics = {"train/loss": 1 / (step + 1), "val/accuracy": step / 100}
    _write(run.records_file, step, metrics)
    if step % 5 == 0:
        _write(run.samples_file, step // 5, {"system/cpu_utilization_percentage": step / 10})


def _write(path: Path, step: int, metrics: dict[str, float]) -> None:
    with path.open("a") as file:
        file.write(f"{json.dumps({'step': step, 'time': time.time(), 'metrics': metrics})}\n")


def _end(run: RunDir) -> None:
    run.log_file.write_text("trained\n")
    run.write_result(Result("completed", metrics={"val/accuracy": 0.5}, ended=time.time()))


def _truth(study: Path) -> Points:
    return {
        path.name: sorted(
            (record.step, name, value)
            for record, _ in itertools.chain(RunDir(path).records(), RunDir(path).samples())
            for name, value in record.metrics.items()
        )
        for path in (study / "trials").iterdir()
    }


def _assert_each_once(tracker: Kind, study: Path) -> None:
    told, truth = tracker.read(study), _truth(study)
    assert told.keys() == truth.keys()
    for name, points in truth.items():
        assert [point[:2] for point in told[name]] == [point[:2] for point in points]
        assert [p[2] for p in told[name]] == pytest.approx([p[2] for p in points], abs=1e-5)


def _follow(study: Path) -> subprocess.Popen[str]:
    """The mirror's process, as the driver starts it; returns once its trackers work."""
    code = (
        f"from dlsweep.trackers.mirror import main; raise SystemExit(main({str(study)!r}, [], 1))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(OWN_TRACKERS), os.getcwd()])},
    )
    assert process.stdout
    line = json.loads(process.stdout.readline())
    assert line["ready"], line
    return process


def _close(process: subprocess.Popen[str]) -> int:
    process.communicate(timeout=60)
    return process.returncode


def _trials(make_run: Callable[..., RunDir], count: int) -> list[RunDir]:
    return [
        make_run({"lr": 0.1 * (k + 1)}, name=f"{k:04d}", params={"lr": 0.1 * (k + 1)})
        for k in range(count)
    ]


def test_a_run_is_told_while_it_trains(
    tracker: Kind, study: Path, make_run: Callable[..., RunDir]
) -> None:
    runs = _trials(make_run, 2)
    process = _follow(study)
    _train(runs[0], records=20)
    deadline = time.monotonic() + 20
    while len(tracker.read(study).get("0000", [])) < 44 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert len(tracker.read(study)["0000"]) == 44
    _train(runs[1], records=5)
    _write_study(study, finished=time.time(), best={"number": 0, "value": 0.5, "params": {}})
    assert _close(process) == 0
    _assert_each_once(tracker, study)


def test_a_mirror_killed_again_and_again_tells_everything_once(
    tracker: Kind, study: Path, make_run: Callable[..., RunDir]
) -> None:
    dice = random.Random(7)
    runs = _trials(make_run, 3)
    enough = threading.Event()

    def train() -> None:
        steps = itertools.count()
        while not enough.wait(0.005):
            _append(dice.choice(runs), next(steps))

    training = threading.Thread(target=train)
    training.start()
    for _ in range(4):
        process = _follow(study)
        time.sleep(dice.uniform(0.0, 0.6))
        process.kill()
        process.communicate()
    enough.set()
    training.join()
    process = _follow(study)
    for run in runs:
        _end(run)
    assert _close(process) == 0
    _assert_each_once(tracker, study)


def test_finished_runs_are_told_later_and_only_once(
    tracker: Kind, study: Path, make_run: Callable[..., RunDir]
) -> None:
    for run in _trials(make_run, 2):
        _train(run, records=600)
    assert mirror.sync(study) == {"kind": 1440}
    _assert_each_once(tracker, study)
    assert mirror.sync(study) == {"kind": 0}
    _assert_each_once(tracker, study)


def test_what_was_told_but_not_noted_before_a_crash_is_there_once(
    tracker: Kind, study: Path, make_run: Callable[..., RunDir]
) -> None:
    (run,) = _trials(make_run, 1)
    position = run.mirror_file("kind")
    _train(run, records=10)
    run.result_file.unlink()
    mirror.sync(study)
    before = position.read_text()
    _end(run)
    with run.records_file.open("a") as file:
        file.write('{"step": 10, "time": 1700000000.5, "metrics": {"train/loss": NaN, "b": 2.0}}\n')
        file.write('{"step": 11, "time": 1700000000.6, "metrics": {"train/loss": 0.1}}\n')
    mirror.sync(study)
    position.write_text(before)
    mirror.sync(study)
    steps = [(step, name) for step, name, _ in tracker.read(study)["0000"]]
    assert steps == [point[:2] for point in _truth(study)["0000"]]


def test_a_position_that_was_lost_doubles_nothing(
    tracker: Kind, study: Path, make_run: Callable[..., RunDir]
) -> None:
    (run,) = _trials(make_run, 1)
    _train(run, records=10)
    mirror.sync(study)
    run.mirror_file("kind").unlink()
    (study / "mirror" / "kind.json").unlink()
    mirror.sync(study)
    _assert_each_once(tracker, study)


def test_a_view_that_was_deleted_is_rebuilt(
    tracker: Kind, study: Path, make_run: Callable[..., RunDir]
) -> None:
    for run in _trials(make_run, 2):
        _train(run, records=10)
    mirror.sync(study)
    tracker.delete(study)
    code = f"from dlsweep.trackers import mirror; mirror.main({str(study)!r}, [], False)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(OWN_TRACKERS), os.getcwd()])}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    _assert_each_once(tracker, study)


def test_what_differs_is_found_and_mended(
    tracker: Kind, study: Path, make_run: Callable[..., RunDir]
) -> None:
    if isinstance(tracker, Lines):
        pytest.skip("a tracker need not be readable")
    more, less, same = _trials(make_run, 3)
    for run in (more, less, same):
        _train(run, records=4)
    mirror.sync(study)
    assert list(mirror.differences(study)) == []
    _edit_as_if_told(more, lambda lines: [*lines, lines[0].replace('"step": 0', '"step": 9')])
    _edit_as_if_told(less, lambda lines: lines[:3])
    for repair in (False, True):
        found = list(mirror.differences(study, repair=repair))
        assert [line.partition(",")[0] for line in found] == [
            "0000 in kind: 2 of 11 values are missing",
            "0001 in kind: 2 of 7 values are not in the folder",
        ]
    assert list(mirror.differences(study)) == []
    _assert_each_once(tracker, study)


def _edit_as_if_told(run: RunDir, edit: Callable[[list[str]], list[str]]) -> None:
    """Changes the truth behind the mirror's back."""
    run.records_file.write_text("".join(edit(run.records_file.read_text().splitlines(True))))
    position = json.loads(run.mirror_file("kind").read_text())
    position["offset"] = run.records_file.stat().st_size
    run.mirror_file("kind").write_text(json.dumps(position))
