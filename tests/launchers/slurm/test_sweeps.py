"""Sweeps on a real Slurm cluster: what goes well, and what is killed on the way."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
SLURM = ("launcher=slurm", "-m")
WALK = (*SLURM, "training._target_=walk.train", "training.seconds=0.4", "training.steps=14")
ONE, TWO = (*WALK, "training.x=range(1)"), (*WALK, "training.x=range(2)")


def test_the_table_is_that_of_the_same_sweep_on_this_machine(project) -> None:
    sweep = ("-m", "hydra.sweeper.n_trials=10", "hydra.sweeper.seed=3", "training.steps=4")
    project.run(*sweep, "launcher=slurm", "hydra.sweeper.study_name=there")
    project.run(*sweep, "hydra.sweeper.n_jobs=1", "hydra.sweeper.study_name=here")
    there, here = project.table("there"), project.table("here")
    assert set(here["state"]) == {"completed", "pruned"}
    columns = [name for name in here.columns if name not in ("start", "duration")]
    assert there[columns].equals(here[columns])


def test_the_documented_command(project) -> None:
    page = (Path(__file__).parents[3] / "docs/cluster.md").read_text()
    found = re.search(r"<!-- slurm -->\n```bash\npython -m dlsweep (.*)\n```", page)
    assert found
    told = "training._target_=where.train"
    project.run(*found[1].split()[1:], told, "hydra.sweeper.n_trials=4")
    assert set(project.table()["state"]) == {"completed"}
    assert project.table()["user_attrs_job"].nunique() <= 2, "a job runs trial after trial"


def test_each_trial_can_be_a_job(project) -> None:
    where = ("training._target_=where.train", "training.x=range(2)", "launcher.gpus_per_trial=1")
    project.run(*SLURM, *where, "launcher.trials_per_job=1")
    table = project.table()
    assert table["user_attrs_job"].nunique() == 2
    assert set(table["user_attrs_gpus"]) == {0}


def test_trials_of_preempted_jobs_save_and_go_on(project, slurm) -> None:
    driver = project.start(*TWO, "launcher.slots=2")
    slurm.wait_until(lambda: len(project.training()) == 2 and project.is_training(3))
    jobs = slurm.jobs()
    command = ["--partition=urgent", "--output=/dev/null", "--exclusive", "--wrap=sleep 3"]
    for _ in jobs:
        slurm.ask("sbatch", *command)
    output = project.end_of(driver)
    project.assert_exactly_once(2)
    for trial in project.trials():
        work = (trial / "work.txt").read_text().split()
        assert len(work) == 14, "no step is done again"
        assert project.attempts(trial) == 2, output
    assert re.search(r"000\d preempted; it will be retried", output)
    restarts = re.findall(r"Restarts=(\d)", slurm.ask("scontrol", "show", "job", jobs[0]))
    assert restarts == ["1"], "the same job, requeued"


def test_a_job_that_has_to_leave_while_it_imports_comes_back(project, slurm) -> None:
    driver = project.start(*ONE, "launcher.preload=[heavy]", "training.steps=3")
    slurm.wait_until(lambda: (project.path / "importing").exists())
    (job,) = slurm.jobs()
    slurm.ask("scancel", "--signal=USR2", job)
    (log,) = project.study().glob("workers/*/log/*_log.err")
    slurm.wait_until(lambda: "Caught signal SIGUSR2" in log.read_text())
    (project.path / "go").touch()
    project.end_of(driver)
    project.assert_exactly_once(1)
    assert project.attempts(project.trials()[0]) == 1
    assert "Restarts=1" in slurm.ask("scontrol", "show", "job", job)


def test_a_job_that_is_warned_before_it_can_hear_it_runs(project, slurm) -> None:
    """Python itself has only just started, as when a job is preempted at once."""
    early = project.path / "early"
    early.mkdir()
    (project.path / "heavy.py").rename(early / "sitecustomize.py")
    setup = f"launcher.setup=['export PYTHONPATH={early}']"
    driver, told = project.start(*ONE, setup, "training.steps=3"), project.path / "importing"
    slurm.wait_until(lambda: told.exists() and bool(told.read_text()))
    os.kill(int(told.read_text()), signal.SIGUSR2)  # as Slurm does
    (project.path / "go").touch()
    project.end_of(driver)
    project.assert_exactly_once(1)


def test_trials_go_on_whatever_happens_to_their_jobs(project, slurm) -> None:
    driver = project.start(*WALK, "training.x=range(4)", "launcher.slots=4")
    slurm.wait_until(lambda: len(project.training()) == 4 and project.is_training(3))
    cancelled, warned, killed, healthy = slurm.jobs()
    slurm.ask("scancel", cancelled)
    slurm.ask("scancel", "--signal=USR2", warned)  # as before its time limit
    slurm.ask("scancel", "--signal=KILL", killed)
    os.kill(project.training_in_job(healthy), signal.SIGKILL)
    project.end_of(driver)
    project.assert_exactly_once(4)
    assert [project.attempts(trial) for trial in project.trials()] == [2] * 4


def test_a_trial_goes_on_when_its_node_is_lost(project, slurm) -> None:
    driver = project.start(*ONE)
    slurm.wait_until(lambda: project.is_training(3))
    node = int(slurm.jobs("%N")[0].removeprefix("n"))
    slurm.lose_node(node)
    try:
        output = project.end_of(driver)
    finally:
        slurm.start_node(node)
    project.assert_exactly_once(1)
    assert "node_lost" in output
    assert project.attempts(project.trials()[0]) == 3  # the second shuts the lost process out


def test_a_killed_driver_is_followed_by_one_that_adopts_its_trials(project, slurm) -> None:
    gated = ("training._target_=gated.train", "training.x=range(2)", "launcher.slots=2")
    sweep = (*SLURM, *gated)
    first = project.start(*sweep)
    slurm.wait_until(lambda: len(project.training()) == 2 and project.is_training(4))
    jobs, trials = slurm.jobs(), project.training()
    assert f"is locked by process {first.pid}" in project.run(*sweep, code=1)
    assert (slurm.jobs(), project.training()) == (jobs, trials), "the second touches nothing"
    first.kill()
    first.wait()
    second = project.start(*sweep)
    (project.path / "go").touch()
    slurm.wait_until(lambda: project.is_training(8))
    assert slurm.jobs() == jobs
    project.end_of(second)
    project.assert_exactly_once(2)
    assert {project.attempts(trial) for trial in project.trials()} == {1}
    assert all(len((trial / "work.txt").read_text().split()) == 8 for trial in project.trials())


def test_a_job_whose_driver_stays_away_saves_and_ends(project, slurm) -> None:
    driver = project.start(*ONE, "launcher.patience=5")
    slurm.wait_until(lambda: project.is_training(3))
    driver.kill()
    driver.wait()
    slurm.wait_until(lambda: not slurm.jobs())
    (trial,) = project.trials()
    assert json.loads((trial / "result.json").read_text())["status"] == "preempted"
    done = len((trial / "work.txt").read_text().split())
    assert 3 <= done < 14
    assert "0000 goes on" in project.run(*ONE, "launcher.patience=5")
    project.assert_exactly_once(1)
    assert len((trial / "work.txt").read_text().split()) == 14, "no step is done again"
    assert project.attempts(trial) == 2


def test_a_sweep_that_waits_in_the_queue_can_be_stopped(project, slurm) -> None:
    driver = project.start(*TWO, "+launcher.sbatch.begin=now+1hour")
    slurm.wait_until(lambda: len(slurm.jobs()) == 1)
    assert driver.stdout is not None
    slurm.wait_until(lambda: (project.study() / "check" / "configs.json").exists())
    driver.terminate()
    output = project.end_of(driver)
    assert "2 trials are missing; the same command resumes the sweep." in output
    assert not slurm.jobs()
