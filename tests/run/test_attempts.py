"""A process whose run has been started again can neither log, publish nor end it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dlsweep.errors import StudyError
from dlsweep.folders.attempt import ATTEMPT_VARIABLE, Attempt
from dlsweep.folders.rundir import RunDir
from dlsweep.run.run import Run

#: Logs and saves a step, waits for a file, and does the next step.
TRAINING = """
import sys, time
from pathlib import Path
from dlsweep.run.run import Run
from dlsweep.trial.task import execute

def train(run):
    for step in (1, 2):
        run.log({"val/accuracy": step / 10}, step)
        run.checkpoints.save(step, lambda folder: (folder / "state").write_text("old"))
        while step == 1 and not (run.dir.path / "go").exists():
            time.sleep(0.02)
    return {"val/accuracy": 0.2}

with Run.open(Path(sys.argv[1])) as run:
    sys.exit(execute(run, train))
"""


@pytest.fixture
def orphan(make_run: Callable[..., RunDir]):
    """A run, and a process of its first attempt that has done one step of two."""
    folder = make_run()
    number = Attempt.begin(folder).number
    process = subprocess.Popen(
        [sys.executable, "-c", TRAINING, str(folder.path)],
        env={**os.environ, ATTEMPT_VARIABLE: str(number)},
        stderr=subprocess.PIPE,
        text=True,
    )
    while not list(folder.checkpoints.glob("step-*")):
        time.sleep(0.02)
    yield folder, process
    process.kill()
    process.communicate()


def steps(folder: RunDir) -> list[int]:
    return [record.step for record, _ in folder.records()]


def test_an_orphan_changes_nothing_behind_the_fence(orphan, monkeypatch) -> None:
    folder, process = orphan
    process.send_signal(signal.SIGSTOP)  # as a cut network: it lives, and nobody hears it
    monkeypatch.setenv(ATTEMPT_VARIABLE, str(Attempt.begin(folder).number))
    folder.lock_file.unlink()
    with Run.open(folder.path) as run:
        assert run.checkpoints.latest().step == 1
        (folder.path / "go").touch()
        process.send_signal(signal.SIGCONT)
        _, said = process.communicate(timeout=60)
        assert process.returncode == 1
        assert "attempt 1 was replaced by a later attempt" in said
        assert steps(folder) == [1]
        assert [path.name for path in folder.checkpoints.iterdir()] == ["step-00000001"]
        assert folder.result() is None
        run.log({"val/accuracy": 0.3}, 2)
        run.checkpoints.save(2, lambda path: (path / "state").write_text("new"))
    assert steps(folder) == [1, 2]
    assert (folder.checkpoints / "step-00000002" / "state").read_text() == "new"


def test_an_orphan_is_asked_to_stop(make_run, monkeypatch) -> None:
    folder = make_run()
    monkeypatch.setenv(ATTEMPT_VARIABLE, str(Attempt.begin(folder).number))
    with Run.open(folder.path) as run:
        assert not run.should_stop
        Attempt.begin(folder)
        time.sleep(0.15)  # a run looks for stop requests ten times a second
        assert run.should_stop


def test_what_a_replaced_attempt_published_is_not_taken(make_run, capfd) -> None:
    """Its rename passed the check a moment before the fence was closed."""
    folder = make_run()
    Attempt.begin(folder)
    with Run.open(folder.path) as run:
        run.checkpoints.save(1, lambda path: (path / "state").write_text("1"))
        run.checkpoints.save(2, lambda path: (path / "state").write_text("2"))
    late = folder.checkpoints / "step-00000002"
    aside = late.rename(folder.path / "aside")
    Attempt.begin(folder)
    aside.rename(late)
    with Run.open(folder.path) as run:
        assert run.checkpoints.latest().step == 1
    assert "saved by an attempt that had been replaced" in capfd.readouterr().err


def test_a_complete_checkpoint_of_a_killed_attempt_is_taken(make_run) -> None:
    folder = make_run()
    Attempt.begin(folder)
    with Run.open(folder.path) as run:
        run.checkpoints.save(3, lambda path: (path / "state").write_text("3"))
    done = folder.checkpoints / "step-00000003"
    done.rename(folder.checkpoints / ".step-00000003.new")
    Attempt.begin(folder)
    for _ in range(2):
        with Run.open(folder.path) as run:
            assert run.checkpoints.latest().step == 3


def test_a_late_process_does_not_start(make_run, monkeypatch) -> None:
    folder = make_run()
    monkeypatch.setenv(ATTEMPT_VARIABLE, str(Attempt.begin(folder).number))
    Attempt.begin(folder)
    with pytest.raises(StudyError, match="attempt 1 was replaced"):
        Run.open(folder.path)


@pytest.mark.parametrize("text", ["[]", "{}", '{"attempt": "x", "checkpoints": []}', "x"])
def test_a_damaged_file_is_named(make_run, text: str) -> None:
    folder = make_run()
    (folder.path / "attempt.json").write_text(text)
    with pytest.raises(StudyError, match=r"attempt\.json is damaged"):
        Attempt.current(folder)


def test_a_link_instead_of_the_file_of_records_is_not_followed(make_run, tmp_path: Path) -> None:
    folder = make_run()
    other = tmp_path / "other"
    other.write_text("")
    folder.records_file.symlink_to(other)
    with pytest.raises(StudyError, match=r"records\.jsonl is a link"):
        Run.open(folder.path)
    assert other.read_text() == ""
