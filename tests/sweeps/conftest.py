"""Runs the command line as a user does, in a project folder of its own."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pytest

if TYPE_CHECKING:
    from pages import Shell


class Project:
    """A folder in which dlsweep is used."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "dlsweep", *arguments]

    def start(self, *arguments: str, **env: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.command(*arguments),
            cwd=self.path,
            env={**os.environ, **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments: str, code: int = 0, **env: str) -> str:
        process = self.start(*arguments, **env)
        output, _ = process.communicate(timeout=240)
        assert process.returncode == code, output
        return output

    def table(self, study: str) -> pd.DataFrame:
        return pd.read_csv(self.path / "outputs" / study / "trials.csv")

    def trials(self, study: str) -> list[Path]:
        return sorted((self.path / "outputs" / study / "trials").iterdir())

    def module(self, name: str, text: str) -> None:
        (self.path / f"{name}.py").write_text(text)


class WarmProject(Project):
    """The same, where each command is a fork of a process that has imported the framework."""

    def __init__(self, path: Path, shell: Shell) -> None:
        super().__init__(path)
        self._shell = shell

    def run(self, *arguments: str, code: int = 0, **env: str) -> str:
        assert not env
        line = shlex.join(["python", *self.command(*arguments)[1:]])
        ended, output = self._shell(line, self.path)
        assert ended == code, output
        return output


def steps(trial: Path) -> list[int]:
    """The step of each record that holds metrics."""
    records = map(json.loads, (trial / "records.jsonl").read_text().splitlines())
    return [record["step"] for record in records if record["metrics"]]


def result(trial: Path) -> dict:
    return json.loads((trial / "result.json").read_text())


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


@pytest.fixture
def warm_project(tmp_path: Path, warm: Shell) -> WarmProject:
    return WarmProject(tmp_path, warm)


@pytest.fixture
def read_steps() -> Callable[[Path], list[int]]:
    return steps


@pytest.fixture
def read_result() -> Callable[[Path], dict]:
    return result
