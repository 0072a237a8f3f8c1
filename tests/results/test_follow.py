"""The state of a study as its folders show it, whoever has written them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dlsweep.drive.progress import Counts
from dlsweep.drive.views import make_view
from dlsweep.errors import StudyError
from dlsweep.folders.attempt import Attempt
from dlsweep.folders.rundir import Result, RunDir
from dlsweep.folders.studydir import StudyDir
from dlsweep.folders.watch import Watch
from dlsweep.results.follow import Follower


@pytest.fixture
def study(tmp_path: Path) -> StudyDir:
    folder = StudyDir(tmp_path / "outputs" / "study")
    folder.create()
    record = {
        "name": "study",
        "storage": "sqlite://",
        "objective": ["val/accuracy"],
        "directions": ["maximize"],
        "command": ["python"],
        "tracking": {},
        "n_trials": 3,
        "slots": 2,
    }
    folder.write_info(record)
    folder.lock_file.touch()
    return folder


@pytest.fixture
def follower(study: StudyDir) -> Follower:
    return Follower(study, Watch(study))


def log(run: RunDir, step: int, **metrics: float) -> None:
    with run.records_file.open("a") as file:
        file.write(json.dumps({"step": step, "time": 0.0, "metrics": metrics}) + "\n")


def test_a_study_without_trials_is_followed(follower: Follower) -> None:
    follower.look(is_alive=True)
    assert (follower.running, follower.front, dict(follower.states())) == ([], {}, {})


def test_a_trial_runs_if_this_driver_began_it(make_run, follower: Follower) -> None:
    view = make_view([], Counts())
    ours, theirs = make_run(name="0001"), make_run(name="0000")
    follower.look(is_alive=True)
    assert dict(follower.states()) == {"interrupted": 2}
    Attempt.begin(ours)
    log(ours, 3, **{"val/accuracy": 0.5})
    log(ours, 4, other=1.0)
    follower.look(is_alive=True)
    follower.show(view, is_first=True)
    assert [seen.folder.path for seen in follower.running] == [ours.path]
    assert follower.running[0].last.step == 3
    assert view.running["0001"].values == [0.5]
    assert view.counts.slots == 2
    theirs.write_result(Result("completed", metrics={"val/accuracy": 0.25}, ended=1.0))
    follower.look(is_alive=False)
    assert dict(follower.states()) == {"completed": 1, "interrupted": 1}
    assert follower.front == {0: [0.25]}


def test_a_failure_is_told_only_if_it_is_not_retried(make_run, follower: Follower, capsys) -> None:
    view, run = make_view([], Counts()), make_run()
    Attempt.begin(run)
    follower.look(is_alive=True)
    follower.show(view, is_first=True)
    for result in (Result("crashed", "first", ended=2e9), Result("interrupted", ended=2e9)):
        run.write_result(result)
        follower.look(is_alive=True)
        follower.show(view, is_first=False)
    run.clear()
    Attempt.begin(run)
    follower.look(is_alive=True)
    follower.show(view, is_first=False)
    run.write_result(Result("pruned", ended=2e9))
    follower.look(is_alive=True)
    follower.show(view, is_first=False)
    lines = [line.split(maxsplit=1)[1] for line in capsys.readouterr().out.splitlines()]
    words = [line.partition(" in ")[0] for line in lines]
    assert words == [
        "0000 is running",
        "[0/3] 0000 interrupted",
        "0000 goes on",
        "[1/3] 0000 pruned",
    ]


def test_a_trial_that_is_not_launched_is_told_with_its_reason(
    make_run, follower: Follower, capsys
) -> None:
    view = make_view([], Counts())
    follower.look(is_alive=True)
    follower.show(view, is_first=True)
    make_run().write_result(Result("rejected", "it needs too much", ended=2e9))
    follower.look(is_alive=True)
    follower.show(view, is_first=False)
    assert capsys.readouterr().out.endswith("[1/3] 0000 rejected: it needs too much\n")
    assert (view.counts.rejected, view.running) == (1, {})


def test_a_long_run_is_read_from_near_its_end(make_run, follower: Follower) -> None:
    run = make_run()
    Attempt.begin(run)
    for step in range(10_000):
        log(run, step, **{"val/accuracy": step / 10_000})
    view = make_view([], Counts())
    follower.look(is_alive=True)
    follower.show(view, is_first=True)
    values = view.running["0000"].values
    assert values[-1] == 0.9999
    assert 100 < len(values) < 10_000


@pytest.mark.parametrize(
    "text",
    [
        '{"status": "splendid"}',
        '{"status": ["completed"]}',
        '{"status": "completed", "metrics": {"val/accuracy": "much"}}',
        '{"status": "completed", "metrics": [1]}',
        '{"status": "completed", "ended": "now"}',
    ],
)
def test_a_damaged_result_is_named(make_run, follower: Follower, text: str) -> None:
    run = make_run()
    run.result_file.write_text(text)
    with pytest.raises(StudyError, match="is damaged"):
        follower.look(is_alive=False)
