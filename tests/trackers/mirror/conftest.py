"""A study's folder with a tracker of the tests' own, and the mirror's process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dlsweep.folders.rundir import Result, RunDir

HERE = Path(__file__).parent


@pytest.fixture
def lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the LineTracker writes."""
    monkeypatch.syspath_prepend(str(HERE))
    folder = tmp_path / "lines"
    folder.mkdir()
    return folder


@pytest.fixture
def options(lines: Path) -> dict[str, str]:
    return {"_target_": "line_tracker.LineTracker", "folder": str(lines)}


@pytest.fixture
def study(tmp_path: Path, options: dict[str, str]) -> Path:
    folder = tmp_path / "outputs" / "study"
    (folder / "trials").mkdir(parents=True)
    (folder / "study.json").write_text(json.dumps(study_info(lines=options)))
    return folder


def study_info(**tracking: dict[str, str]) -> dict[str, object]:
    return {
        "id": "5",
        "name": "study",
        "objective": ["val/accuracy"],
        "directions": ["maximize"],
        "created": time.time(),
        "n_trials": None,
        "tracking": tracking,
    }


@pytest.fixture
def train() -> Callable[..., RunDir]:
    """Appends a record for each step to a run, and ends it if a status is given."""

    def train(run: RunDir, steps: range, status: str | None = None) -> RunDir:
        with run.records_file.open("a") as file:
            for step in steps:
                file.write(json.dumps({"step": step, "time": 1.5, "metrics": {"a": step}}) + "\n")
        if status:
            run.write_result(Result(status, ended=time.time()))
        return run

    return train


@pytest.fixture
def sample() -> Callable[..., RunDir]:
    """Appends system metrics to a run."""

    def sample(run: RunDir, steps: range) -> RunDir:
        with run.samples_file.open("a") as file:
            for step in steps:
                file.write(json.dumps({"step": step, "time": 2.5, "metrics": {"s": step}}) + "\n")
        return run

    return sample


@pytest.fixture
def told(lines: Path) -> Callable[[str], list[int]]:
    """The steps that the LineTracker holds of a run."""

    def told(name: str) -> list[int]:
        file = lines / f"{name}.txt"
        text = file.read_text() if file.exists() else ""
        return [json.loads(line)[0] for line in text.splitlines()]

    return told


class MirrorProcess:
    """The mirror as the driver starts it."""

    def __init__(self, folder: Path, added: dict[str, dict[str, str]]) -> None:
        arguments = f"{str(folder)!r}, {[*added]}, True, {added}"
        code = f"from dlsweep.trackers import mirror; raise SystemExit(mirror.main({arguments}))"
        path = os.pathsep.join([str(HERE), os.getcwd()])
        self.process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
        )

    def news(self) -> dict[str, object]:
        assert self.process.stdout
        return json.loads(self.process.stdout.readline())

    def close(self) -> tuple[int, str]:
        """Closes its standard input; returns its exit code and what it said on standard error."""
        _, said = self.process.communicate(timeout=30)
        return self.process.returncode, said


@pytest.fixture
def follow() -> Iterator[Callable[..., MirrorProcess]]:
    started: list[MirrorProcess] = []

    def follow(folder: Path, **added: dict[str, str]) -> MirrorProcess:
        started.append(MirrorProcess(folder, added))
        return started[-1]

    yield follow
    for one in started:
        one.process.kill()
        one.process.communicate()


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], None]:
    """Waits until something is so."""

    def until(is_so: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 20
        while not is_so():
            assert time.monotonic() < deadline, "it never came to that"
            time.sleep(0.02)

    return until
