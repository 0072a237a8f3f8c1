"""Studies in folders with odd names."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from dlsweep.folders.database import sqlite_path, sqlite_url

ODD = ["what? now", "{braces}", "100%41", "a#b", "it's (mine) & yours", "ünï"]
SWEEP = "+experiment=quadratic training.steps=2 training.x=1,2 hydra.sweeper.study_name=odd -m"


@pytest.mark.parametrize("name", ODD)
def test_a_url_leads_back_to_its_path(name: str) -> None:
    path = Path("/some") / name / "study.db"
    assert sqlite_path(sqlite_url(path)) == path


def test_a_plain_path_stays_as_it_is() -> None:
    assert sqlite_url(Path("/some/study.db")) == "sqlite:////some/study.db"
    assert sqlite_path("postgresql://a/b") is None


def dlsweep(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dlsweep", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)


@pytest.mark.slow
def test_a_study_lies_in_its_folder_whatever_the_name(tmp_path: Path) -> None:
    folder = tmp_path.joinpath(*ODD)
    folder.mkdir(parents=True)
    done = dlsweep(folder, *SWEEP.split(), "tracking=[csv]")
    assert done.returncode == 0, done.stderr
    assert (folder / "outputs/odd/study.db").stat().st_size > 0
    assert [path for path in tmp_path.rglob("*") if folder not in path.parents] == [
        tmp_path.joinpath(*ODD[:depth]) for depth in range(1, len(ODD) + 1)
    ]
    assert len(pd.read_csv(folder / "outputs/odd/trials.csv")) == 2
    for verb in ("report", "verify"):
        done = dlsweep(folder, verb, "outputs/odd")
        assert done.returncode == 0, done.stderr
    assert "started" not in dlsweep(folder, *SWEEP.split(), "tracking=[csv]").stdout


@pytest.mark.slow
@pytest.mark.parametrize("name", ["what? now", "{braces}", "100%41"])
def test_mlflows_file_in_such_a_folder_is_refused_before_anything_starts(
    tmp_path: Path, name: str
) -> None:
    folder = tmp_path / name
    folder.mkdir()
    done = dlsweep(folder, *SWEEP.split(), "tracking=[mlflow]")
    assert done.returncode == 1
    assert "MLflow cannot open a file whose path contains" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(folder.glob("outputs/odd/trials"))
