"""A project of a user's own: its configs, its training function, its own Hydra app."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

_EXPERIMENT = """
# @package _global_
defaults:
  - override /framework: none
  - override /model: none
  - override /data: none
  - override /tracking: none
  - override /training: mine
hydra:
  sweeper:
    metric: score
    direction: maximize
    params:
      training.depth: range(1,4)
"""

_TRAINING = """
_target_: mine.train
depth: 2
monitor: score
mode: max
"""

_MINE = """
def train(run, cfg):
    for step in range(cfg.training.depth):
        run.log({"score": cfg.training.depth + step}, step)
    return None if cfg.seed == 0 else {"other": 1.0}
"""

_APP = """
import hydra
import dlsweep

@hydra.main(config_path=None, config_name="app", version_base="1.3")
def main(cfg):
    for step in range(1, 6):
        if dlsweep.report(cfg.x ** 2 + 1 / step, step):
            print("asked to stop")
            break
    return cfg.x ** 2

if __name__ == "__main__":
    main()
"""

_APP_CONFIG = """
defaults:
  - override hydra/sweeper: dlsweep
  - override hydra/sweeper/pruner: median
  - _self_
x: 1.0
hydra:
  sweeper:
    n_trials: 7
    n_jobs: 2
    seed: 0
    pruner:
      n_startup_trials: 2
    params:
      x: interval(-5,5)
"""


def python(folder: Path, *arguments: str, code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == code, done.stdout
    return done.stdout


def dlsweep(folder: Path, *arguments: str, code: int = 0) -> str:
    return python(folder, "-m", "dlsweep", "+experiment=x", *arguments, code=code)


def result(trial: Path) -> dict:
    return json.loads((trial / "result.json").read_text())


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name, text in {
        "conf/experiment/x.yaml": _EXPERIMENT,
        "conf/training/mine.yaml": _TRAINING,
        "mine.py": _MINE,
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.slow
def test_a_projects_own_configs_and_function_are_found(project: Path) -> None:
    output = dlsweep(project, "training.depth=5")
    (run,) = (project / "outputs" / "x" / "runs").iterdir()
    assert result(run)["metrics"] == {"score": 9.0}
    assert "score" in output
    output = dlsweep(project, "-m")
    table = pd.read_csv(project / "outputs" / "x" / "trials.csv")
    assert list(table["training.depth"]) == [1, 2, 3]
    assert list(table["score"]) == [1.0, 3.0, 5.0]
    assert "number: 2" in (project / "outputs" / "x" / "best.yaml").read_text()


def test_a_projects_file_goes_before_a_shipped_one_of_the_same_name(project: Path) -> None:
    (project / "conf" / "training" / "default.yaml").write_text(_TRAINING)
    shown = python(project, "-m", "dlsweep", "--cfg", "job", "-p", "training")
    assert "_target_: mine.train" in shown
    shown = python(project, "-m", "dlsweep", "+training/optimizer=sgd", "--cfg", "job")
    assert "momentum: 0.9" in shown, "the shipped groups are there as well"


def test_an_error_says_that_the_root_config_is_that_of_another_app(project: Path) -> None:
    (project / "conf" / "config.yaml").write_text("lr: 0.1\n")
    said = python(project, "-m", "dlsweep", "model=mlp", code=1)
    assert f"{project / 'conf' / 'config.yaml'} takes the place of dlsweep's root config." in said


@pytest.mark.slow
def test_a_metric_that_is_never_logged_fails_the_trials_with_what_there_is(project: Path) -> None:
    output = dlsweep(project, "training.depth=range(1,7)", "seed=1", "-m", code=1)
    assert "The sweep's objective is 'score', which the run never reported." in output
    assert "Received: other." in output
    assert "training.monitor=<metric>" in output
    assert "Traceback" not in output


@pytest.mark.slow
def test_a_command_that_was_refused_can_be_corrected(project: Path) -> None:
    dlsweep(project, "training._target_=mine.trian", "-m", code=1)
    assert "3 trials (3 completed)" in dlsweep(project, "-m")


@pytest.mark.slow
def test_a_sweep_of_which_no_trial_completed_has_failed(project: Path) -> None:
    dlsweep(project, "training.depth=1,2", "seed=1", "-m", code=1)


@pytest.mark.slow
def test_a_key_both_swept_and_fixed_is_refused(project: Path) -> None:
    dlsweep(project, "training.depth=1,2", "training.depth=3", "-m", code=1)


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("app")
    (folder / "app.py").write_text(_APP)
    (folder / "app.yaml").write_text(_APP_CONFIG)
    return folder


def test_a_foreign_hydra_app_runs_alone_as_ever(app: Path) -> None:
    python(app, "app.py", "--config-dir", ".", "x=3", "hydra.run.dir=alone")
    assert not list(app.glob("alone/run*.json"))


@pytest.mark.slow
def test_a_foreign_hydra_app_is_swept_pruned_and_goes_on(app: Path) -> None:
    command = ("app.py", "--config-dir", ".", "hydra.sweep.dir=study", "-m")
    output = python(app, *command)
    table = pd.read_csv(app / "study" / "trials.csv")
    assert list(table["number"]) == list(range(7))
    assert set(table["state"]) == {"completed", "pruned"}
    best = table.loc[table["objective"].idxmin()]
    assert best["objective"] == pytest.approx(best["x"] ** 2)
    pruned = app / "study" / "trials" / f"{table.index[table['state'] == 'pruned'][0]:04d}"
    assert "asked to stop" in (pruned / "log.txt").read_text()
    assert len((pruned / "records.jsonl").read_text().splitlines()) < 5
    assert "app.py --config-dir" in output, "the command to paste is the app's own"
    assert "started" not in python(app, *command)
    assert len(list((app / "study" / "trials").iterdir())) == 7
