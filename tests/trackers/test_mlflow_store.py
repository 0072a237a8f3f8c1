"""The tables that MLflow makes are made once for a machine, and are the same from then on."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from dlsweep.folders.rundir import RunDir
from dlsweep.trackers.mlflow.tracker import MLflowTracker

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning"),
]


def begin_in(path: Path, run: RunDir) -> None:
    state: dict[str, object] = {}
    MLflowTracker(f"sqlite:///{path}").start(run, {}, state)
    assert state["run_id"]


def ask(path: Path, question: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as database:
        return database.execute(question).fetchall()


def test_a_copied_database_is_as_mlflow_makes_it(make_run, tmp_path, monkeypatch) -> None:
    run = make_run()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    made, copied = tmp_path / "one" / "mlflow.db", tmp_path / "other" / "mlflow.db"
    begin_in(made, run)
    (kept,) = (tmp_path / "cache" / "dlsweep").iterdir()
    assert ask(kept, "SELECT * FROM experiments") == [], "which would name the first one's folder"
    begin_in(copied, run)
    for question in (
        "SELECT * FROM sqlite_master ORDER BY name",
        "SELECT * FROM alembic_version",
        "SELECT experiment_id, name FROM experiments",
        "SELECT count(*) FROM runs",
        "PRAGMA journal_mode",
    ):
        assert ask(copied, question) == ask(made, question) != []
    places = ask(copied, "SELECT artifact_location FROM experiments")
    assert not [place for (place,) in places if str(made.parent) in str(place)]


def test_a_cache_that_cannot_be_written_costs_time_alone(make_run, tmp_path, monkeypatch) -> None:
    (tmp_path / "cache").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    begin_in(tmp_path / "mlflow.db", make_run())
    assert ask(tmp_path / "mlflow.db", "SELECT count(*) FROM runs") == [(1,)]
