"""User attributes reach Optuna's trial, the tables and the trackers."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import optuna
import pandas as pd
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dlsweep.trackers.wandb.offline import read_offline

pytestmark = pytest.mark.slow

_MINE = """
def train(run, cfg):
    run.set_user_attr("parameters", 1)
    run.set_user_attr("parameters", 10 * int(cfg.training.x))
    run.set_user_attr("layers", ["a", "b"])
    return {"val/loss": cfg.training.x}
"""
_APP = """
import hydra
import dlsweep

@hydra.main(config_path=None, config_name="app", version_base="1.3")
def main(cfg):
    dlsweep.set_user_attr("parameters", 10 * int(cfg.x))
    return cfg.x

if __name__ == "__main__":
    main()
"""


def python(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, capture_output=True, text=True, timeout=180
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_they_reach_the_study_the_tables_and_the_trackers(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(_MINE)
    sweep = "+experiment=quadratic training._target_=mine.train training.x=1,2"
    python(tmp_path, "-m", "dlsweep", *sweep.split(), "tracking=[mlflow,wandb,tensorboard]", "-m")
    study = tmp_path / "outputs" / "quadratic"
    table = pd.read_csv(study / "trials.csv")
    assert list(table["user_attrs_parameters"]) == [10, 20]
    loaded = optuna.load_study(study_name="quadratic", storage=f"sqlite:///{study / 'study.db'}")
    assert loaded.trials[1].user_attrs["layers"] == ["a", "b"]
    with closing(sqlite3.connect(tmp_path / "outputs" / "mlflow.db")) as database:
        tags = database.execute("SELECT value FROM tags WHERE key = 'parameters'").fetchall()
    assert sorted(tags) == [("10",), ("20",)]
    found = set()
    for folder in study.glob("wandb/offline-run-*"):
        for record in read_offline(folder):
            if record["type"] == "summary":
                found.add(str(record["summary"]["update"].get("parameters")))
    assert {"10", "20"} <= found
    events = EventAccumulator(str(study / "tensorboard" / "0001"))
    events.Reload()
    (text,) = events.Tensors("user_attrs")
    assert b'"parameters": 20' in text.tensor_proto.string_val[0]
    assert "agree" in python(tmp_path, "-m", "dlsweep", "verify", "outputs/quadratic")


def test_an_app_of_ones_own_sets_them_and_runs_alone(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(_APP)
    (tmp_path / "app.yaml").write_text("x: 1.0\n")
    app = ("app.py", "--config-dir", ".")
    python(tmp_path, *app, "hydra.run.dir=alone")
    python(tmp_path, *app, "hydra/sweeper=dlsweep", "hydra.sweep.dir=study", "x=3,4", "-m")
    table = pd.read_csv(tmp_path / "study" / "trials.csv")
    assert list(table["user_attrs_parameters"]) == [30, 40]
