"""Trials import the code as it was when their sweep began, whatever is edited meanwhile."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from dlsweep.errors import ConfigError
from dlsweep.launchers import snapshot

OWN = ["dlsweep", "training._target_=mine.train", "+training.depth=interval(0,1)"]
OWN += ["framework=none", "model=none", "data=none", "tracking=none", "training=function"]
OWN += ["hydra.sweeper.metric=score", "hydra.sweeper.study_name=own", "hydra.sweeper.n_jobs=1"]
MINE = """
import time
from pathlib import Path

def train(run, cfg):
    Path("started").touch()
    while not Path("go").exists():
        time.sleep(0.02)
    import helper
    return {"score": helper.SCORE}
"""
APP = """
import time
from pathlib import Path
import hydra

@hydra.main(config_path="conf", config_name="app", version_base="1.3")
def main(cfg):
    Path(cfg.here, "started").touch()
    while not Path(cfg.here, "go").exists():
        time.sleep(0.02)
    import helper
    assert (Path(__file__).parent / "table.csv").read_text() == "data"
    return helper.SCORE + cfg.add

if __name__ == "__main__":
    main()
"""
CONFIG = """
defaults: [_self_, {override hydra/sweeper: dlsweep}]
x: 0
add: 0
here: HERE
hydra: {sweep: {dir: HERE/out}, sweeper: {n_jobs: 1}}
"""


def run(folder: Path, *command: str) -> subprocess.Popen[str]:
    arguments = [sys.executable, *command, "-m"]
    return subprocess.Popen(
        arguments, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def sweep(folder: Path, *command: str) -> pd.DataFrame:
    """Runs a sweep; edits the code as soon as its first trial has started."""
    process = run(folder, *command)
    while not (folder / "started").exists() and process.poll() is None:
        time.sleep(0.05)
    (folder / "helper.py").write_text("SCORE = 2")
    for config in folder.glob("conf/app.yaml"):
        config.write_text(config.read_text().replace("add: 0", "add: 7"))
    (folder / "go").touch()
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    return table(folder)


def table(folder: Path) -> pd.DataFrame:
    (found,) = folder.glob("o*/**/trials.csv")
    return pd.read_csv(found)


@pytest.mark.slow
@pytest.mark.parametrize("start", ["warm", "fresh"])
def test_a_sweep_does_not_see_edits(tmp_path: Path, start: str) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "helper.py").write_text("SCORE = 1")
    command = ["-m", *OWN, f"launcher.start={start}"]
    found = sweep(tmp_path, *command, "hydra.sweeper.n_trials=2")
    assert list(found["score"]) == [1, 1]
    more = run(tmp_path, *command, "hydra.sweeper.n_trials=3")
    output, _ = more.communicate(timeout=120)
    assert "The code has changed since this study began" in output
    assert list(table(tmp_path)["score"]) == [1, 1, 2]


@pytest.mark.slow
@pytest.mark.parametrize("command", [["app.py"], ["-m", "app"]])
@pytest.mark.parametrize("start", ["warm", "fresh"])
def test_an_app_of_hydras_does_not_see_edits(tmp_path: Path, command, start: str) -> None:
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "helper.py").write_text("SCORE = 1")
    (tmp_path / "table.csv").write_text("data")
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "app.yaml").write_text(CONFIG.replace("HERE", str(tmp_path)))
    launcher = f"+hydra.sweeper.launcher.start={start}"
    target = "+hydra.sweeper.launcher._target_=dlsweep.launchers.local.LocalLauncher"
    found = sweep(tmp_path, *command, "x=1,2", target, launcher)
    assert list(found["objective"]) == [1, 1]


def project(path: Path) -> Path:
    """A project with code, data beside it, and things that are no code."""
    for name in ("main.py", "pkg/a.py", "pkg/deep/b.py", "conf/x.yaml", "pkg/weights.bin"):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(name)
    (path / "data").mkdir()
    (path / "data" / "big.bin").write_text("data")
    for other, mark in (("venv", "pyvenv.cfg"), ("outputs/mnist", "study.json")):
        (path / other / "lib").mkdir(parents=True)
        (path / other / mark).touch()
        (path / other / "lib" / "other.py").touch()
    (path / "pkg" / "__pycache__").mkdir()
    (path / ".hidden").mkdir()
    (path / ".hidden" / "h.py").touch()
    return path


CODE = {Path(name) for name in ("main.py", "pkg/a.py", "pkg/deep/b.py", "conf/x.yaml")}


@pytest.mark.parametrize("is_repository", [True, False])
def test_code_is_copied_and_data_is_linked(tmp_path: Path, is_repository: bool) -> None:
    here = project(tmp_path / "here")
    if is_repository:
        subprocess.run(["git", "init", "-q", str(here)], check=True)
        (here / ".gitignore").write_text("ignored.py\n")
        (here / "ignored.py").touch()
    assert snapshot.code_files(here) == CODE
    copy = snapshot.take(here, tmp_path / "study")
    assert {path for path in CODE if (copy / path).is_file()} == CODE
    assert not any((copy / path).is_symlink() for path in CODE)
    assert (copy / "pkg" / "weights.bin").read_text() == "pkg/weights.bin"
    assert (copy / "data").is_symlink()
    assert (copy / "data" / "big.bin").read_text() == "data"
    assert not any((copy / name).exists() for name in ("venv", ".hidden", "pkg/__pycache__"))


def test_a_state_of_the_code_is_copied_once(tmp_path: Path) -> None:
    here, study = project(tmp_path / "here"), tmp_path / "study"
    first = snapshot.take(here, study)
    (first / "pkg" / "a.py").write_text("of a stranger's folder")
    (first / "torch.py").write_text("too")
    assert snapshot.take(here, study) == first
    assert (first / "pkg" / "a.py").read_text() == "pkg/a.py"
    assert not (first / "torch.py").exists()
    (here / "pkg" / "a.py").write_text("edited")
    second = snapshot.take(here, study)
    assert first != second
    assert (first / "pkg" / "a.py").read_text() == "pkg/a.py"
    assert sorted(os.listdir(study / "code")) == sorted([first.name, second.name])


def test_a_folder_for_runs_at_the_top_is_no_obstacle(tmp_path: Path) -> None:
    """TensorBoard's own default folder is ``runs``."""
    here = project(tmp_path / "here")
    (here / "runs").mkdir()
    assert snapshot.code_files(here) == CODE


def test_without_code_there_is_no_snapshot(tmp_path: Path) -> None:
    assert snapshot.take(tmp_path, tmp_path / "study") is None
    assert not (tmp_path / "study").exists()


def test_a_home_folder_is_no_project(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(snapshot, "_MOST_FILES", 5)
    with pytest.raises(ConfigError, match="more than 5 files, and is no git repository"):
        snapshot.take(project(tmp_path), tmp_path / "study")
