"""Where runs come from is written once, without secrets."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from dlsweep.folders import origin


def git(*arguments: str) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", *identity, *arguments], check=True, capture_output=True)


def test_commit_changes_machine_and_packages_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CLOUD_TOKEN", "abcd-1234-efgh")
    git("init")
    git("remote", "add", "origin", "https://me:hunter2@host/code.git")
    Path("code.py").write_text("a = 1\n")
    git("add", ".")
    git("commit", "-m", "first")
    Path("code.py").write_text("a = 'abcd-1234-efgh'\n")
    study = tmp_path / "study"
    study.mkdir()
    origin.record(study)
    found = origin.read(study)
    assert len(found["commit"]) == 40
    assert found["has_changes"]
    assert found["remote"] == "https://me:***@host/code.git"
    assert found["packages"]["hydra-core"]
    diff = (study / "diff.patch").read_text()
    assert "-a = 1\n+a = '***'\n" in diff
    Path("code.py").write_text("a = 3\n")
    origin.record(study)
    assert (study / "diff.patch").read_text() == diff


def test_outside_of_a_repository_there_is_no_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert origin.read(tmp_path) == {}
    origin.record(tmp_path)
    assert (origin.read(tmp_path)["commit"], origin.read(tmp_path)["has_changes"]) == ("", False)
    assert not (tmp_path / "diff.patch").exists()
