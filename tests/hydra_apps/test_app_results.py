"""What a user's Hydra app may return or raise, and the sentences for what dlsweep does not do."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

pytestmark = pytest.mark.slow

_APP = """
import hydra
import dlsweep

@hydra.main(config_path=None, config_name="app", version_base="1.3")
def main(cfg):
    {body}

if __name__ == "__main__":
    main()
"""
_CONFIG = "x: 1.0\n"


def run(
    folder: Path, body: str, *overrides: str, config: str = _CONFIG
) -> subprocess.CompletedProcess[str]:
    (folder / "app.py").write_text(_APP.format(body=body))
    (folder / "app.yaml").write_text(config)
    command = [sys.executable, "app.py", "--config-dir", ".", *overrides]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)


def sweep(
    folder: Path, body: str, *overrides: str, config: str = _CONFIG
) -> subprocess.CompletedProcess[str]:
    ours = ("hydra/sweeper=dlsweep", "hydra.sweep.dir=study", "-m")
    return run(folder, body, *overrides, *ours, config=config)


def table(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "study" / "trials.csv")


def test_several_values_need_no_names(tmp_path: Path) -> None:
    done = sweep(
        tmp_path, "return cfg.x, -cfg.x", "x=1,2,3", "hydra.sweeper.direction=[minimize,minimize]"
    )
    assert done.returncode == 0, done.stderr
    found = table(tmp_path)
    assert list(found["objective_0"]) == [1.0, 2.0, 3.0]
    assert list(found["objective_1"]) == [-1.0, -2.0, -3.0]


def test_an_app_that_returns_nothing_can_be_gridded(tmp_path: Path) -> None:
    done = sweep(tmp_path, "print(cfg.x)", "x=1,2,3")
    assert done.returncode == 0, done.stdout + done.stderr
    assert list(table(tmp_path)["state"]) == ["completed"] * 3
    verified = subprocess.run(
        [sys.executable, "-m", "dlsweep", "verify", "study"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert verified.returncode == 0, verified.stdout
    again = sweep(tmp_path, "print(cfg.x)", "x=1,2,3")
    assert again.returncode == 0
    assert len(table(tmp_path)) == 3


def test_an_app_that_returns_nothing_cannot_be_searched(tmp_path: Path) -> None:
    done = sweep(tmp_path, "print(cfg.x)", "x=interval(0,1)", "hydra.sweeper.n_trials=2")
    assert done.returncode == 1
    assert "the run never reported 'objective'" in done.stdout
    assert "Traceback" not in done.stderr


def test_optunas_own_exception_prunes_a_trial(tmp_path: Path) -> None:
    body = "import optuna\n    dlsweep.report(cfg.x, 1)\n    raise optuna.TrialPruned()"
    done = sweep(tmp_path, f"if cfg.x == 1: return 1.0\n    {body}", "x=1,2")
    assert done.returncode == 0, done.stderr
    assert list(table(tmp_path)["state"]) == ["completed", "pruned"]


def test_a_report_outside_of_a_sweep_does_nothing(tmp_path: Path) -> None:
    done = run(tmp_path, "assert not dlsweep.report(1.0, 1)\n    return 2.0", "hydra.run.dir=alone")
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.glob("alone/run.json"))


def test_nothing_swept_is_the_one_job(tmp_path: Path) -> None:
    assert sweep(tmp_path, "return cfg.x", "x=5").returncode == 0
    assert list(table(tmp_path)["objective"]) == [5.0]


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (("x=1,2", "+hydra.sweeper.search_space.x=1"), "hydra.sweeper.params, such as"),
        (("x=1,2", "hydra.sweeper.custom_search_space=a.b"), "when: "),
        (
            ("x=1,2", "hydra.sweeper.optuna_config={n_jobs: 2}"),
            "Write its keys under hydra.sweeper",
        ),
        (("x=interval(0,1)",), "hydra.sweeper.n_trials=<count>"),
        (("x=1,2", "hydra.sweeper.metric=loss"), "set another:  hydra.sweeper.metric=<metric>"),
    ],
)
def test_an_error_is_a_sentence_with_the_apps_own_keys(
    tmp_path: Path, overrides: tuple[str, ...], says: str
) -> None:
    done = sweep(tmp_path, "return {'other': cfg.x}", *overrides)
    assert done.returncode == 1
    assert says in done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    assert "training.monitor" not in done.stderr + done.stdout


def test_a_launcher_of_hydras_is_named_with_what_to_write_instead(tmp_path: Path) -> None:
    (tmp_path / "hydra" / "launcher").mkdir(parents=True)
    launcher = "_target_: hydra._internal.core_plugins.basic_launcher.BasicLauncher\n"
    (tmp_path / "hydra" / "launcher" / "joblib.yaml").write_text(launcher)
    done = sweep(tmp_path, "return cfg.x", "x=1,2", "hydra/launcher=joblib")
    assert done.returncode == 1
    assert "hydra/launcher: Received 'joblib'" in done.stderr
    assert "hydra.sweeper.n_jobs=<count>" in done.stderr
    assert not (tmp_path / "study").exists()


def test_an_ignored_setting_is_said_before_anything_starts(tmp_path: Path) -> None:
    done = sweep(tmp_path, "return cfg.x", "x=1,2", "hydra.sweep.subdir=x_${hydra.job.num}")
    assert done.returncode == 0, done.stderr
    first = done.stdout.splitlines()[0]
    assert first == "hydra.sweep.subdir is ignored: a trial's folder is trials/<number>."
    numbers = [
        json.loads(p.read_text())["number"] for p in tmp_path.glob("study/trials/*/run.json")
    ]
    assert sorted(numbers) == [0, 1]


def test_a_folder_with_the_time_in_it_is_said_with_what_resumes_the_study(tmp_path: Path) -> None:
    command = ("x=1,2", "hydra/sweeper=dlsweep")
    done = run(tmp_path, "return cfg.x", *command, "-m")
    assert done.returncode == 0, done.stderr
    first = done.stdout.splitlines()[0]
    assert "contains ${now:…}: the same command starts a new study" in first
    again = run(tmp_path, "return cfg.x", *command, first.split()[-1], "-m")
    assert again.returncode == 0, again.stderr
    assert "started" not in again.stdout
    assert len(list(tmp_path.glob("multirun/*/*/study.json"))) == 1
