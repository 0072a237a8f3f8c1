from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from dlsweep.errors import ConfigError, StudyError, StudyLockedError, TrackerError
from dlsweep.folders.lock import Lock
from dlsweep.security import addresses
from dlsweep.trackers import mirror


def edit(file: Path, **fields) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **fields}))


def test_sync_counts_the_records_of_each_tracker(study, make_run, train, told):
    train(make_run(name="0000"), range(3), "completed")
    train(make_run(name="0001"), range(2))
    assert mirror.sync(study) == {"lines": 5}
    assert (told("0000"), told("0001")) == ([0, 1, 2], [0, 1])


def test_a_torn_last_line_waits_for_its_end(study, make_run, train, told):
    run = train(make_run(), range(2))
    with run.records_file.open("a") as file:
        file.write('{"step": 2, "time": 1')
    assert mirror.sync(study) == {"lines": 2}
    with run.records_file.open("a") as file:
        file.write('.0, "metrics": {"a": 1}}\n')
    assert mirror.sync(study) == {"lines": 1}
    assert told("0000") == [0, 1, 2]


def test_system_metrics_are_told_once_among_the_records(study, make_run, train, told, sample):
    run = train(sample(make_run(), range(2)), range(2))
    assert mirror.sync(study) == {"lines": 4}
    assert told("0000") == [0, 1, 0, 1], "the records, which are older, come first"
    assert mirror.sync(study) == {"lines": 0}
    train(sample(run, range(2, 3)), range(2, 3), "completed")
    assert mirror.sync(study) == {"lines": 2}
    assert told("0000") == [0, 1, 0, 1, 2, 2]


def test_a_study_is_told_before_its_trials_and_when_it_is_over(study, lines, make_run, train):
    train(make_run(), range(1), "pruned")
    mirror.sync(study)
    edit(study / "study.json", finished=1.0, best=None)
    mirror.sync(study)
    notes = (lines / "notes").read_text().splitlines()
    assert notes == ["study study", "0000 pruned of study", "study study", "study study finished"]


def test_a_study_that_is_over_and_told_is_not_told_by_the_next_driver(
    study, lines, make_run, train, follow
):
    train(make_run(), range(2), "completed")
    edit(study / "study.json", finished=9.0)
    assert follow(study).close() == (0, "")
    notes = (lines / "notes").read_text()
    assert notes.endswith("study study finished\n")
    again = follow(study)
    assert again.news()["ready"]
    assert again.close() == (0, "")
    assert (lines / "notes").read_text() == notes
    mirror.sync(study)
    assert (lines / "notes").read_text() != notes, "but a person's sync looks if it is there"


def test_an_interrupted_run_is_not_closed(study, lines, make_run, train, told):
    run = train(make_run(), range(2), "interrupted")
    mirror.sync(study)
    assert "0000" not in (lines / "notes").read_text()
    run.clear()
    train(run, range(2, 4), "completed")
    mirror.sync(study)
    assert told("0000") == [0, 1, 2, 3]
    assert "0000 completed of study" in (lines / "notes").read_text()


def test_a_run_that_was_tried_again_is_closed_again(study, lines, make_run, train, told):
    run = train(make_run(), range(2), "killed")
    mirror.sync(study)
    run.clear()
    train(run, range(2, 3), "completed")
    assert mirror.sync(study) == {"lines": 1}
    notes = [line for line in (lines / "notes").read_text().splitlines() if "0000" in line]
    assert notes == ["0000 killed of study", "0000 completed of study"]
    assert told("0000") == [0, 1, 2]


def test_a_tracker_that_is_added_later_is_told_from_the_start(
    study, options, make_run, train, tmp_path
):
    train(make_run(), range(3), "completed")
    mirror.sync(study)
    (tmp_path / "more").mkdir()
    more = {**options, "folder": str(tmp_path / "more")}
    edit(study / "study.json", tracking={"lines": options, "more": more})
    assert mirror.sync(study) == {"lines": 0, "more": 3}


def test_a_tracker_with_other_options_is_told_from_the_start(
    study, options, make_run, train, tmp_path
):
    train(make_run(), range(3), "completed")
    mirror.sync(study)
    (tmp_path / "moved").mkdir()
    edit(study / "study.json", tracking={"lines": {**options, "folder": str(tmp_path / "moved")}})
    assert mirror.sync(study) == {"lines": 3}


def test_single_runs_below_a_study_are_synced_with_it(
    study, options, make_run, train, told, tmp_path
):
    train(make_run(), range(1), "completed")
    run = make_run(name="1", number=None, tracking={"lines": options})
    run.path.rename(tmp_path / "outputs" / "study" / "alone")
    (study / "runs").mkdir()
    (study / "alone").rename(study / "runs" / "alone")
    train(type(run)(study / "runs" / "alone"), range(2), "completed")
    assert mirror.sync(study) == {"lines": 3}
    assert told("alone") == [0, 1]


def test_one_trial_can_be_synced_alone(study, make_run, train, told):
    train(make_run(name="0000"), range(3), "completed")
    run = train(make_run(name="0001"), range(2), "completed")
    assert mirror.sync(run.path) == {"lines": 2}
    assert told("0000") == []


def test_a_tracker_resolves_what_the_environment_holds(
    study, lines, make_run, train, told, monkeypatch
):
    monkeypatch.setenv("LINES", str(lines))
    referring = {"_target_": "line_tracker.LineTracker", "folder": "${oc.env:LINES}"}
    edit(study / "study.json", tracking={"lines": referring})
    addresses.remember({"tracking": {"lines": referring}}, study)  # as the sweep did
    run = train(make_run(), range(1), "completed")
    mirror.sync(study)
    assert told("0000") == [0]
    assert str(lines) not in run.mirror_file("lines").read_text()


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("os.path.join", "join"),
        ("pathlib.Path", "no dlsweep.trackers.Tracker"),
        ("nowhere.Tracker", "nowhere"),
        ("line_tracker.LineTracker", "directory"),
    ],
)
def test_options_that_make_no_tracker_are_refused(study, lines, target, reason):
    edit(study / "study.json", tracking={"odd": {"_target_": target, "directory": "."}})
    with pytest.raises(TrackerError, match=f"tracking.odd does not build a tracker.*{reason}"):
        mirror.sync(study)


def test_a_name_of_no_tracker_is_refused(study, lines):
    with pytest.raises(ConfigError, match=r"'line'. Expected: lines. Did you mean 'lines'"):
        mirror.sync(study, ["line"])


def test_a_folder_without_runs_is_refused(tmp_path):
    with pytest.raises(StudyError, match="contains no study and no runs"):
        mirror.sync(tmp_path)


def test_two_mirrors_of_a_study_do_not_meet(study, lines, monkeypatch):
    monkeypatch.setattr(mirror, "_LOCK_PATIENCE", 0.2)
    lock = Lock(study / "mirror" / "lines.lock")
    assert lock.acquire()
    with pytest.raises(StudyLockedError, match=f"mirrored to lines by process {os.getpid()}"):
        mirror.sync(study)
    lock.release()
    assert mirror.sync(study) == {"lines": 0}


def test_another_tracker_can_be_told_while_a_mirror_is_at_work(
    study, options, make_run, train, told, follow, tmp_path
):
    train(make_run(), range(3), "completed")
    process = follow(study)
    process.news()
    (tmp_path / "more").mkdir()
    more = {**options, "folder": str(tmp_path / "more")}
    assert mirror.sync(study, ["more"], added={"more": more}) == {"more": 3}
    assert mirror.sync(study, ["more"], added={"more": more}) == {"more": 0}
    assert process.close() == (0, "")
    assert told("0000") == [0, 1, 2]


def test_a_tracker_that_cannot_be_read_back_is_said(study, make_run, train):
    train(make_run(), range(3), "completed")
    assert list(mirror.differences(study)) == ["0000 in lines: LineTracker cannot be read back"]


def test_a_failing_tracker_does_not_hold_up_another(
    study, options, lines, make_run, train, tmp_path
):
    train(make_run(), range(3), "completed")
    (tmp_path / "down").mkdir()
    (tmp_path / "down" / "down").touch()
    broken = {**options, "folder": str(tmp_path / "down")}
    edit(study / "study.json", tracking={"broken": broken, "lines": options})
    with pytest.raises(TrackerError, match=r"^broken: the lines are down$"):
        mirror.sync(study)
    assert (lines / "0000.txt").read_text().count("\n") == 3
    (tmp_path / "down" / "down").unlink()
    assert mirror.sync(study) == {"broken": 3, "lines": 0}


def test_a_tracker_is_told_nothing_before_a_run_has_started(study, lines, follow):
    process = follow(study)
    time.sleep(1.5)
    assert process.close() == (0, "")
    assert list(lines.iterdir()) == []
    assert not (study / "mirror" / "lines.json").exists()


def test_following_says_that_a_tracker_works_and_how_to_view_it(study, make_run, follow):
    make_run()
    news = follow(study).news()
    assert news == {"tracker": "lines", "ready": True, "view": f"cat {study}"}


def test_following_says_why_a_tracker_does_not_start(study, lines, make_run, train, told, follow):
    (lines / "down").touch()
    train(make_run(), range(2), "completed")
    process = follow(study)
    assert process.news() == {"tracker": "lines", "error": "the lines are down"}
    assert process.close()[0] == 1
    assert told("0000") == []


def test_following_finds_new_runs_and_ends_when_input_closes(
    study, make_run, train, told, follow, until
):
    process = follow(study)
    run = train(make_run(name="0000"), range(2))
    process.news()
    until(lambda: told("0000") == [0, 1])
    train(run, range(2, 3), "completed")
    train(make_run(name="0001"), range(4), "crashed")
    until(lambda: (told("0000"), told("0001")) == ([0, 1, 2], [0, 1, 2, 3]))
    train(make_run(name="0002"), range(5), "completed")
    assert process.close() == (0, "")
    assert told("0002") == [0, 1, 2, 3, 4]


def test_following_takes_trackers_that_were_not_asked_for(
    study, options, make_run, train, told, follow
):
    edit(study / "study.json", tracking={})
    train(make_run(), range(2), "completed")
    process = follow(study, lines=options)
    assert process.news()["ready"]
    train(make_run(name="0001"), range(3), "completed")
    assert process.close() == (0, "")
    assert (told("0000"), told("0001")) == ([0, 1], [0, 1, 2])


def test_following_is_unmoved_by_ctrl_c(study, make_run, train, told, follow):
    run = make_run()
    process = follow(study)
    process.news()
    process.process.send_signal(signal.SIGINT)
    time.sleep(0.2)
    train(run, range(2), "completed")
    assert process.close() == (0, "")
    assert told("0000") == [0, 1]


def test_a_run_tried_again_under_the_same_driver_is_told_to_the_end(
    study, make_run, train, told, follow, until
):
    process = follow(study)
    run = train(make_run(), range(2), "killed")
    until(lambda: told("0000") == [0, 1])
    time.sleep(0.5)
    run.clear()
    train(run, range(2, 4), "completed")
    assert process.close() == (0, "")
    assert told("0000") == [0, 1, 2, 3]


@pytest.mark.slow
def test_a_tracker_that_fails_later_is_said_once_and_catches_up(
    study, lines, make_run, train, told, follow, until
):
    process = follow(study)
    run = train(make_run(), range(2))
    process.news()
    until(lambda: told("0000") == [0, 1])
    (lines / "down").touch()
    train(run, range(2, 5))
    time.sleep(2.5)
    assert told("0000") == [0, 1]
    (lines / "down").unlink()
    until(lambda: told("0000") == [0, 1, 2, 3, 4])
    code, said = process.close()
    assert (code, said.count("the lines are down")) == (0, 1)


@pytest.mark.slow
def test_a_run_that_a_tracker_refuses_does_not_hold_up_the_others(
    study, lines, make_run, train, told, follow, until
):
    (lines / "refused").write_text("0000")
    process = follow(study)
    for name in ("0000", "0001", "0002"):
        train(make_run(name=name), range(2), "completed")
    process.news()
    until(lambda: (told("0001"), told("0002")) == ([0, 1], [0, 1]))
    code, said = process.close()
    assert (code, said.count("will be retried. OSError: 0000 is refused")) == (1, 1)
    assert "lines is not synced. OSError: 0000 is refused\n" in said
    assert f"Sync it:  python -m dlsweep sync {study}\n" in said


@pytest.mark.slow
def test_hundreds_of_finished_runs_cost_a_follower_next_to_nothing(study, make_run, train, follow):
    for number in range(400):
        train(make_run(name=f"{number:04d}"), range(1), "completed")
    mirror.sync(study)
    process = follow(study)
    process.news()
    time.sleep(0.5)
    begun = cpu_seconds(process.process.pid)
    time.sleep(2)
    assert cpu_seconds(process.process.pid) - begun < 0.1
    assert process.close() == (0, "")


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
