"""What a sweep promises, on a training function that needs no framework."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sqlite3
import time
from pathlib import Path

import pandas as pd
import pytest

pytestmark = pytest.mark.slow
QUADRATIC = ("+experiment=quadratic", "tracking=none")


def wait_for(condition, seconds: float = 30.0):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
    return found


def test_a_grid_on_the_command_line_runs_exactly_its_points(project) -> None:
    output = project.run(*QUADRATIC, "training.x=1,2", "seed=1,2", "-m")
    table = project.table("quadratic")
    points = list(zip(table["training.x"], table["seed"], strict=True))
    assert points == [(1, 1), (1, 2), (2, 1), (2, 2)]
    assert set(table["state"]) == {"completed"}
    assert "4 trials (4 completed)" in output


@pytest.mark.parametrize("tracking", ["[]", "none"])
def test_no_tracker_is_a_list_of_none(project, tracking: str) -> None:
    output = project.run(
        "+experiment=quadratic", f"tracking={tracking}", "training.x=1,2", "training.y=0", "-m"
    )
    assert "mlflow" not in output
    assert set(project.table("quadratic")["state"]) == {"completed"}
    assert not (project.path / "outputs" / "mlflow.db").exists()


def test_a_sweep_ends_with_tables_a_leaderboard_and_a_command_to_paste(project) -> None:
    output = project.run(*QUADRATIC, "-m")
    study = project.path / "outputs" / "quadratic"
    csv = project.table("quadratic")
    parquet = pd.read_parquet(study / "trials.parquet")
    assert list(csv["number"]) == list(parquet["number"]) == list(range(20))
    assert {"completed", "pruned"} == set(csv["state"])
    best = csv[csv["state"] == "completed"].sort_values("val/loss").iloc[0]
    assert f"number: {best['number']}" in (study / "best.yaml").read_text()
    page = (study / "report.html").read_text()
    assert f"The best val/loss is {best['val/loss']:.6g}, of trial {best['number']:04d}." in page
    assert f"The report:  {study / 'report.html'}\n" in output
    assert not list(study.glob("study.db-*")), "the database is one file, which can be copied"
    command = re.search(r"python -m dlsweep (.*training\.x=.*)", output).group(1)
    again = project.run(*command.split())
    assert f"val/loss         {best['val/loss']:.6g}" in again
    assert project.run("report", "outputs/quadratic") in output
    assert "\x1b" not in output


def test_the_same_command_again_starts_nothing(project) -> None:
    arguments = (*QUADRATIC, "hydra.sweeper.n_trials=4", "-m")
    ended = project.run(*arguments)
    study = project.path / "outputs" / "quadratic"
    files = [study / "study.json", study / "trials.csv", study / "report.html"]
    before = [(file.read_bytes(), file.stat().st_mtime_ns) for file in files[1:]]
    record = files[0].read_bytes()
    output = project.run(*arguments)
    assert "started" not in output
    assert output[output.index("\nquadratic: ") :] == ended[ended.index("\nquadratic: ") :]
    assert files[0].read_bytes() == record, "it ended when it did"
    assert [(file.read_bytes(), file.stat().st_mtime_ns) for file in files[1:]] == before
    project.run(*QUADRATIC, "hydra.sweeper.n_trials=6", "-m")
    assert list(project.table("quadratic")["number"]) == list(range(6))
    assert files[2].read_bytes() != before[1][0], "written again, of all six"


def test_one_slot_and_a_seed_give_the_same_sweep_twice(project) -> None:
    arguments = (*QUADRATIC, "hydra.sweeper.n_trials=10", "hydra.sweeper.n_jobs=1", "-m")
    columns = ["number", "state", "val/loss", "training.x", "training.y"]
    project.run(*arguments)
    project.run(*arguments, "hydra.sweeper.study_name=twin")
    assert project.table("quadratic")[columns].equals(project.table("twin")[columns])
    project.run(*arguments, "hydra.sweeper.study_name=other", "seed=7")
    assert not project.table("quadratic")[columns].equals(project.table("other")[columns])


def test_a_driver_killed_at_any_moment_loses_and_doubles_nothing(project, read_steps) -> None:
    options = ("training.steps=12", "training.seconds=0.1", "hydra/sweeper/pruner=none")
    arguments = (*QUADRATIC, *options, "hydra.sweeper.n_trials=10", "-m")
    kills = 0
    for delay in (3.0, 3.5, 4.0, 2.7):
        driver = project.start(*arguments)
        time.sleep(delay)
        with contextlib.suppress(ProcessLookupError):  # a fast machine's sweep may be over
            os.killpg(driver.pid, signal.SIGKILL)
        driver.communicate()
        kills += driver.returncode == -signal.SIGKILL
    assert kills >= 2
    project.run(*arguments)
    table = project.table("quadratic")
    assert list(table["number"]) == list(range(10))
    assert set(table["state"]) == {"completed"}
    for trial in project.trials("quadratic"):
        assert read_steps(trial) == list(range(1, 13)), trial


def test_ctrl_c_saves_what_runs_and_the_same_command_goes_on(project, read_result) -> None:
    arguments = (*QUADRATIC, "training.steps=40", "training.seconds=0.05", "-m")
    arguments = (*arguments, "hydra.sweeper.n_trials=3", "hydra/sweeper/pruner=none")
    trials = project.path / "outputs" / "quadratic" / "trials"
    driver = project.start(*arguments)
    wait_for(lambda: list(trials.glob("*/records.jsonl")))
    time.sleep(0.5)
    os.kill(driver.pid, signal.SIGINT)
    output, _ = driver.communicate(timeout=30)
    assert driver.returncode == 0, output
    assert "the same command resumes the sweep" in output
    assert read_result(project.trials("quadratic")[0])["status"] == "interrupted"
    output = project.run(*arguments)
    assert "0000 goes on" in output
    assert "3 trials (3 completed)" in output


def test_a_killed_trial_ends_alone_and_with_its_reason(project, read_result) -> None:
    project.module("suicidal", _SUICIDAL)
    output = project.run(
        *QUADRATIC,
        "training._target_=suicidal.train",
        "training.x=1,2,3,4,5,6",
        "hydra.sweeper.max_failure_rate=1",
        "-m",
    )
    states = [read_result(trial)["status"] for trial in project.trials("quadratic")]
    assert states == ["completed", "killed", "crashed", "out_of_memory", "diverged", "completed"]
    assert "killed by SIGKILL" in output
    assert "| ValueError: a bug of the user's" in output
    assert project.table("quadratic")["reason"].notna().sum() == 4


_SUICIDAL = """
import os, signal
from dlsweep.errors import Diverged

def train(run, cfg):
    match cfg.training.x:
        case 2: os.kill(os.getpid(), signal.SIGKILL)
        case 3: raise ValueError("a bug of the user's")
        case 4: raise MemoryError
        case 5: return {"val/loss": float("nan")}
    return {"val/loss": 1.0}
"""


def test_too_many_failures_stop_the_sweep(project) -> None:
    project.module("broken", "def train(run, cfg):\n    raise ValueError('always')\n")
    output = project.run(*QUADRATIC, "training._target_=broken.train", "-m", code=1)
    assert "max_failure_rate" in output
    assert len(project.trials("quadratic")) < 8
    assert "Traceback (most recent call last)" in output  # of the trial, in its quoted log


def test_a_free_slot_is_filled_at_once(project) -> None:
    project.module(
        "uneven",
        "import time\n"
        "def train(run, cfg):\n"
        "    time.sleep(3 if cfg.training.x == 0 else 0.2)\n"
        "    return {'val/loss': 1.0}\n",
    )
    project.run(*QUADRATIC, "training._target_=uneven.train", "training.x=0,1,2,3,4,5,6", "-m")
    table = project.table("quadratic")
    starts = pd.to_datetime(table["start"])
    slow_ends = starts[0] + pd.Timedelta(seconds=table["duration"][0])
    assert (starts < slow_ends).sum() >= 5


def test_each_trial_sees_only_its_own_gpu_and_its_share_of_threads(project) -> None:
    project.module(
        "seen",
        "import os, time\n"
        "def train(run, cfg):\n"
        "    time.sleep(0.5)\n"
        "    return {'val/loss': 1.0, 'gpu': float(os.environ['CUDA_VISIBLE_DEVICES']),\n"
        "            'threads': float(os.environ['OMP_NUM_THREADS'])}\n",
    )
    project.run(
        *QUADRATIC,
        "training._target_=seen.train",
        "training.x=1,2,3,4",
        "launcher.cpus_per_trial=1",
        "-m",
        CUDA_VISIBLE_DEVICES="3,5",
    )
    gpus = [_metric(trial, "gpu") for trial in project.trials("quadratic")]
    assert sorted(gpus[:2]) == sorted(gpus[2:]) == [3.0, 5.0]
    assert {_metric(trial, "threads") for trial in project.trials("quadratic")} == {1.0}


def _metric(trial: Path, name: str) -> float:
    import json

    return json.loads((trial / "result.json").read_text())["metrics"][name]


@pytest.mark.parametrize("start", ["warm", "fresh"])
def test_warm_and_fresh_trials_do_the_same(project, start: str) -> None:
    project.run(*QUADRATIC, "training.x=0,2", f"launcher.start={start}", "-m")
    assert list(project.table("quadratic")["val/loss"]) == [5.2, 1.2]


def test_inline_trials_run_in_the_drivers_process(project) -> None:
    project.module(
        "where", "import os\ndef train(run, cfg):\n    return {'val/loss': os.getpid()}\n"
    )
    arguments = (*QUADRATIC, "training._target_=where.train", "training.x=1,2", "launcher=inline")
    driver = project.start(*arguments, "-m")
    output, _ = driver.communicate(timeout=60)
    assert driver.returncode == 0, output
    assert set(project.table("quadratic")["val/loss"]) == {driver.pid}
    assert re.findall(r"(\d{4}) (started|completed)", output) == [
        (number, event) for number in ("0000", "0001") for event in ("started", "completed")
    ], "each is told before the next is asked for"


@pytest.mark.parametrize("launcher", ["local", "inline"])
@pytest.mark.parametrize("mode", [(), ("training.y=1,2", "-m")], ids=["single", "sweep"])
def test_trials_have_the_environment_that_the_config_sets(project, launcher, mode) -> None:
    text = (
        "import os\ndef train(run, cfg):\n    return {'val/loss': os.environ[cfg.training.key]}\n"
    )
    project.module("named", text)
    arguments = (*QUADRATIC, "training._target_=named.train", f"launcher={launcher}", *mode)
    project.run("+framework.env.BY_FRAMEWORK=2", "+training.key=BY_FRAMEWORK", *arguments)
    project.run(
        "+hydra.job.env_set.BY_HYDRA=3",
        "+training.key=BY_HYDRA",
        "hydra.sweeper.study_name=other",
        *arguments,
    )


def test_trials_keep_their_memory_unless_the_user_says_otherwise(project) -> None:
    name = "MALLOC_TRIM_THRESHOLD_"
    text = f"import os\ndef train(run, cfg):\n    return {{'val/loss': os.environ[{name!r}]}}\n"
    project.module("kept", text)
    project.run(*QUADRATIC, "training._target_=kept.train", "training.y=1,2", "-m")
    assert set(project.table("quadratic")["val/loss"]) == {1 << 30}
    arguments = ("training.y=1,2", "hydra.sweeper.study_name=other", "-m")
    project.run(*QUADRATIC, "training._target_=kept.train", *arguments, **{name: "128"})
    assert set(project.table("other")["val/loss"]) == {128}


def test_a_second_driver_is_refused_by_name(project) -> None:
    arguments = (*QUADRATIC, "training.seconds=0.5", "training.steps=200", "training.x=1,2", "-m")
    first = project.start(*arguments)
    wait_for(lambda: list(project.path.glob("outputs/quadratic/trials/*/records.jsonl")))
    output = project.run(*arguments, code=1)
    assert f"process {first.pid}" in output
    assert "hydra.sweeper.study_name=" in output
    os.kill(first.pid, signal.SIGINT)
    first.communicate(timeout=60)
    assert first.returncode == 0


def test_a_changed_space_is_refused_with_the_difference(project) -> None:
    project.run(*QUADRATIC, "training.x=1,2", "-m")
    output = project.run(*QUADRATIC, "training.x=1,3", "training.steps=6", "-m", code=1)
    assert "space of training.x: was 1,2, is 1,3" in output
    assert "training.steps: was 5, is 6" in output
    assert "hydra.sweeper.study_name=<a new name>" in output
    assert len(project.trials("quadratic")) == 2


def test_a_plan_shows_the_space_and_runs_nothing(project) -> None:
    output = project.run("+experiment=mnist", "hydra.sweeper.plan=true", "-m")
    assert "tag(log, interval(1e-4, 1e-1))" in output
    assert re.search(r"training\.optimizer\.momentum.*training/optimizer=sgd", output)
    assert "0004  training/optimizer=" in output
    assert not (project.path / "outputs" / "mnist").exists()


def test_several_objectives_give_a_pareto_front(project) -> None:
    project.module(
        "two", "def train(run, cfg):\n    return {'a': cfg.training.x, 'b': -cfg.training.x}\n"
    )
    output = project.run(
        *QUADRATIC,
        "training._target_=two.train",
        "training.x=1,2,3",
        "hydra.sweeper.metric=[a,b]",
        "hydra.sweeper.direction=[minimize,minimize]",
        "hydra/sweeper/pruner=none",
        "-m",
    )
    assert "The front's first again" in output
    page = (project.path / "outputs" / "quadratic" / "report.html").read_text()
    assert "3 are on the Pareto front of a and b." in page
    assert len(re.findall(r"^ 000\d", output, re.MULTILINE)) == 3


def test_a_time_budget_stops_and_the_rest_can_go_on(project) -> None:
    arguments = (*QUADRATIC, "training.seconds=0.2", "hydra.sweeper.n_trials=40")
    output = project.run(*arguments, "hydra.sweeper.timeout=3", "-m")
    assert "The timeout is over" in output
    assert 1 <= len(project.trials("quadratic")) < 40


def test_the_study_survives_as_plain_sqlite_with_a_write_ahead_log(project) -> None:
    project.run(*QUADRATIC, "training.x=1,2", "-m")
    with sqlite3.connect(project.path / "outputs" / "quadratic" / "study.db") as database:
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    database.close()


def test_what_a_trial_leaks_the_next_does_not_notice(project) -> None:
    project.module(
        "leaky",
        "import os, threading, time\n"
        "def train(run, cfg):\n"
        "    found = {'fds': len(os.listdir('/proc/self/fd')), 'env': 'LEAK' in os.environ,\n"
        "             'threads': threading.active_count()}\n"
        "    os.environ['LEAK'] = 'x'; os.chdir('/')\n"
        "    kept = [open('/dev/null') for _ in range(50)]\n"
        "    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
        "    return {'val/loss': 1.0, **found}\n",
    )
    arguments = ("training.x=range(12)", "system_metrics=null", "-m")  # whose thread has files open
    project.run(*QUADRATIC, "training._target_=leaky.train", *arguments)
    for name in ("fds", "env", "threads"):
        assert len({_metric(trial, name) for trial in project.trials("quadratic")}) == 1


def test_a_run_that_deletes_its_own_folder_says_so_and_names_no_log(project) -> None:
    project.module(
        "gone",
        "import shutil\n"
        "def train(run, cfg):\n"
        "    run.log({'val/loss': 1.0}, 1)\n"
        "    shutil.rmtree(run.dir.path)\n"
        "    return {'val/loss': 1.0}\n",
    )
    command = (*QUADRATIC, "training._target_=gone.train")
    output = project.run(*command, code=1)
    assert "The run crashed: its run folder was deleted while it ran\n" in output
    assert "Its log" not in output
    output = project.run(*command, "training.x=1,2", "-m", code=1)
    assert output.count("its run folder was deleted while it ran") == 2
    assert list(project.table("quadratic")["state"]) == ["crashed", "crashed"]
