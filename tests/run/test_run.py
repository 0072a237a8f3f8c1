"""What a run logs is kept, once, whatever happens to its process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dlsweep.errors import ConfigError, StudyError
from dlsweep.folders.rundir import Result, RunDir
from dlsweep.run import run as run_module
from dlsweep.run.channel import Channel, DriverEnd
from dlsweep.run.run import Run

MakeRun = Callable[..., RunDir]


def steps(folder: RunDir, metric: str = "loss") -> list[int]:
    return [record.step for record, _ in folder.records() if metric in record.metrics]


def nothing(folder: Path) -> None:
    (folder / "weights").touch()


def test_a_run_knows_its_name_and_its_config(make_run: MakeRun) -> None:
    folder = make_run({"epochs": 3, "twice": "${epochs}"}, name="0004")
    with Run.open(folder.path) as run:
        assert (run.name, run.config.twice) == ("0004", 3)


_LOGS = """
import itertools, sys
from dlsweep.run.run import Run
with Run.open(sys.argv[1]) as run:
    for step in itertools.count():
        run.log({"loss": 1 / (step + 1)}, step)
        print(step, flush=True)
"""


def test_what_was_logged_survives_a_kill(make_run: MakeRun) -> None:
    folder = make_run()
    child = subprocess.Popen(
        [sys.executable, "-c", _LOGS, str(folder.path)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout
    logged = [int(child.stdout.readline()) for _ in range(20)]
    os.kill(child.pid, signal.SIGKILL)
    with child:
        logged += map(int, child.stdout.read().splitlines())
    assert steps(folder)[: len(logged)] == logged


def test_anything_that_is_a_number_can_be_logged(make_run: MakeRun) -> None:
    folder = make_run()
    with Run.open(folder.path) as run:
        run.log({"a": True, "b": 2, "c": "3.5", "d": float("inf")}, step=1)
        run.log({}, step=2)
    ((record, _),) = folder.records()
    assert record.metrics == {"a": 1.0, "b": 2.0, "c": 3.5, "d": float("inf")}


def test_a_torn_last_line_is_cut_when_the_run_goes_on(make_run: MakeRun) -> None:
    folder = make_run()
    with Run.open(folder.path) as run:
        run.log({"loss": 1.0}, step=0)
        run.log({"loss": 0.5}, step=1)
    whole = folder.records_file.read_bytes()
    folder.records_file.write_bytes(whole[:-7])
    with Run.open(folder.path) as run:
        run.log({"loss": 0.5}, step=1)
        run.log({"loss": 0.2}, step=2)
    assert steps(folder) == [0, 1, 2]
    assert folder.records_file.read_bytes().count(b"\n") == 3


def test_a_run_that_goes_on_from_a_checkpoint_repeats_and_omits_no_record(
    make_run: MakeRun,
) -> None:
    folder = make_run()
    with Run.open(folder.path) as run:
        for step in range(1, 6):
            run.log({"loss": 1.0 / step}, step)
            if step == 3:
                run.checkpoints.save(step, nothing)
        run.log({"accuracy": 0.5}, step=4)
    with Run.open(folder.path) as run:
        first = run.checkpoints.latest().step + 1
        for step in range(first, 8):
            run.log({"loss": 1.0 / step, "accuracy": 0.1 * step}, step)
    assert steps(folder) == list(range(1, 8))
    assert steps(folder, "accuracy") == [4, 5, 6, 7]


def test_a_run_that_begins_again_without_a_checkpoint_repeats_no_record(make_run: MakeRun) -> None:
    folder = make_run()
    for _ in range(2):
        with Run.open(folder.path) as run:
            for step in range(4):
                run.log({"loss": 1.0}, step)
    assert steps(folder) == [0, 1, 2, 3]


def test_training_seconds_add_up_over_attempts(make_run: MakeRun) -> None:
    folder = make_run()
    with Run.open(folder.path) as run:
        time.sleep(0.1)
        saved = run.checkpoints.save(1, nothing)
        time.sleep(0.6)
    with Run.open(folder.path) as run:
        assert run.train_seconds == saved.seconds >= 0.1
        assert saved.seconds <= run.seconds < saved.seconds + 0.6


@pytest.mark.parametrize(("direction", "best"), [("maximize", 1), ("minimize", 0)])
def test_the_best_checkpoint_follows_the_objective(
    make_run: MakeRun, direction: str, best: int
) -> None:
    folder = make_run(objective=["score"], directions=[direction])
    with Run.open(folder.path) as run:
        for step, score in enumerate([0.1, 0.9, 0.5]):
            run.checkpoints.save(step, nothing, {"score": score})
        assert run.checkpoints.best().step == best


def test_without_a_driver_a_run_stops_for_its_stop_file_or_its_own_wish(make_run: MakeRun) -> None:
    folder = make_run()
    with Run.open(folder.path) as run:
        assert not run.should_stop
        folder.request_stop("out of time")
        deadline = time.monotonic() + 5
        while not run.should_stop:
            assert time.monotonic() < deadline
        assert run.stop_reason == "out of time"
        run.stop("interrupted")
        assert run.stop_reason == "out of time"
    folder.clear()
    with Run.open(folder.path) as run:
        run.stop()
        assert run.should_stop
        assert run.stop_reason == "interrupted"


def wired(folder: RunDir, monkeypatch: pytest.MonkeyPatch) -> tuple[Run, DriverEnd]:
    driver = DriverEnd()
    monkeypatch.setenv("DLSWEEP_CHANNEL", str(os.dup(driver.child_descriptor)))
    driver.close_child()
    return Run.open(folder.path, Channel.inherited()), driver


def test_only_the_objective_rings_and_its_verdict_stops(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, driver = wired(make_run(objective=["loss", "size"]), monkeypatch)
    with run:
        run.log({"size": 1.0}, step=0)
        assert not driver.read_notification()
        assert not run.should_stop
        run.log({"loss": 1.0}, step=1)
        assert driver.read_notification()
        assert steps(run.dir) == [1], "the record is there before the ring"
        driver.answer("pruned")
        assert run.should_stop
        assert run.stop_reason == "pruned"
    driver.close()


def test_a_run_stops_with_its_driver(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    run, driver = wired(make_run(objective=["loss"]), monkeypatch)
    with run:
        driver.close()
        run.log({"loss": 1.0}, step=0)
        assert run.should_stop
        assert run.stop_reason == "interrupted"
    assert steps(run.dir) == [0]


def test_a_second_process_in_the_same_folder_is_refused_by_name(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "_LOCK_PATIENCE", 0.1)
    folder = make_run()
    refusal = f"is being trained by process {os.getpid()} on"
    with Run.open(folder.path), pytest.raises(StudyError, match=refusal):
        Run.open(folder.path)
    with Run.open(folder.path) as run:
        run.log({"loss": 1.0}, step=0)


def test_metrics_without_the_objective_are_refused_with_what_there_is(make_run: MakeRun) -> None:
    with Run.open(make_run(objective=["loss"]).path) as run:
        run.require({"loss": 1.0, "other": 2.0})
        with pytest.raises(ConfigError) as error:
            run.require({"val/loss": 1.0, "accuracy": 0.5})
    assert "objective is 'loss', which the run never reported" in str(error.value)
    assert "Received: accuracy, val/loss." in str(error.value)
    assert "hydra.sweeper.metric=<metric>" in str(error.value)


def test_the_key_to_set_is_one_that_the_runs_config_has(make_run: MakeRun) -> None:
    config = {"training": {"monitor": "loss"}}
    with (
        Run.open(make_run(config, objective=["loss"]).path) as run,
        pytest.raises(ConfigError, match=r"set another:  training.monitor=<metric>"),
    ):
        run.require({"accuracy": 0.5})


def test_the_last_value_of_every_metric_is_known(make_run: MakeRun) -> None:
    with Run.open(make_run().path) as run:
        run.log({"a": 1.0, "b": 1.0}, step=0)
        run.log({"a": 2.0}, step=1)
        assert run.last_metrics() == {"a": 2.0, "b": 1.0}


@pytest.mark.parametrize("name", ["", " ", "a\udcff", 3])
def test_a_name_that_no_tracker_can_show_is_refused(make_run: MakeRun, name: object) -> None:
    with Run.open(make_run().path) as run:
        with pytest.raises(ConfigError, match=r"log: Received the name .*Expected text such as"):
            run.log({name: 1.0}, step=1)
        with pytest.raises(ConfigError, match="log: Received the name"):
            run.log_text(name, "text", step=1)
        run.log({"val/ünï": 1.0}, step=-3)
    assert [record.step for record, _ in RunDir(run.dir.path).records()] == [-3]


def test_a_step_between_two_is_refused(make_run: MakeRun) -> None:
    with Run.open(make_run().path) as run:
        with pytest.raises(ConfigError, match=r"log: Received step=1.5. Expected a whole number"):
            run.log({"a": 1.0}, step=1.5)
        run.log({"a": 1.0}, step=2.0)
    assert [record.step for record, _ in RunDir(run.dir.path).records()] == [2]


def test_text_with_an_undecodable_file_name_can_be_stored_everywhere(make_run: MakeRun) -> None:
    with Run.open(make_run().path) as run:
        run.log_text("sample", "a\udcff", step=1)
        run.dir.write_result(Result("crashed", "FileNotFoundError: a\udcff"))
    read = RunDir(run.dir.path)
    assert read.result().reason == "FileNotFoundError: a\\udcff"
    (record,) = [record for record, _ in read.records()]
    assert record.media["sample"]["text"] == "a\\udcff"


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("status", 1, "'status' is an attribute of dlsweep's"),
        ("", 1, "Received the name ''"),
        ("model", object(), "Expected a plain JSON value"),
    ],
)
def test_what_cannot_be_a_user_attribute_is_refused(
    make_run: MakeRun, key: str, value: object, says: str
) -> None:
    with Run.open(make_run().path) as run:
        with pytest.raises(ConfigError, match=says):
            run.set_user_attr(key, value)
        assert RunDir(run.dir.path).user_attrs() == {}
