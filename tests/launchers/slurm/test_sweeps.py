"""Sweeps on a real Slurm cluster: what goes well, and what is killed on the way."""

from __future__ import annotations

import os
import re
import signal

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


@pytest.mark.parametrize(("limit", "jobs"), [("null", 1), ("1", 3)])
def test_a_job_runs_as_many_trials_as_it_may(project, limit: str, jobs: int) -> None:
    where = ("training._target_=where.train", "training.x=range(3)", "launcher.gpus_per_trial=1")
    project.run(*SLURM, *where, f"launcher.trials_per_job={limit}")
    table = project.table()
    assert table["user_attrs_job"].nunique() == jobs
    assert set(table["user_attrs_gpus"]) == {0}


def test_trials_of_preempted_jobs_save_and_go_on(project, slurm) -> None:
    driver = project.start(*TWO, "launcher.slots=2")
    slurm.wait_until(lambda: len(project.training()) == 2 and project.is_training(3))
    jobs = slurm.jobs()
    command = ["--partition=high", "--output=/dev/null", "--exclusive", "--wrap=sleep 3"]
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


@pytest.mark.parametrize(
    "command",
    [["scancel"], ["scancel", "--signal=USR2"], ["scancel", "--signal=KILL"]],
    ids=["cancelled", "warned of its time limit", "killed"],
)
def test_a_trial_goes_on_when_its_job_is(project, slurm, command: list[str]) -> None:
    driver = project.start(*ONE)
    slurm.wait_until(lambda: project.is_training(3))
    slurm.ask(*command, *slurm.jobs())
    project.end_of(driver)
    project.assert_exactly_once(1)
    assert project.attempts(project.trials()[0]) == 2


def test_a_trial_goes_on_when_its_process_is_killed(project, slurm) -> None:
    driver = project.start(*ONE)
    slurm.wait_until(lambda: project.is_training(3))
    jobs = slurm.jobs()
    os.kill(project.training()[0], signal.SIGKILL)
    slurm.wait_until(lambda: project.is_training(6))
    assert slurm.jobs() == jobs
    project.end_of(driver)
    project.assert_exactly_once(1)


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
    assert project.attempts(project.trials()[0]) == 2


def test_a_killed_driver_is_followed_by_one_that_adopts_its_trials(project, slurm) -> None:
    first = project.start(*TWO, "launcher.slots=2")
    slurm.wait_until(lambda: len(project.training()) == 2 and project.is_training(3))
    jobs, trials = slurm.jobs(), project.training()
    refused = project.run(*TWO, "launcher.slots=2", code=1)
    assert f"is locked by process {first.pid}" in refused
    assert (slurm.jobs(), project.training()) == (jobs, trials), "the second touches nothing"
    first.kill()
    first.wait()
    second = project.start(*TWO, "launcher.slots=2")
    slurm.wait_until(lambda: project.is_training(7))
    assert (slurm.jobs(), project.training()) == (jobs, trials)
    project.end_of(second)
    project.assert_exactly_once(2)
    assert {project.attempts(trial) for trial in project.trials()} == {1}
    assert all(len((trial / "work.txt").read_text().split()) == 14 for trial in project.trials())


def test_a_sweep_that_waits_in_the_queue_can_be_stopped(project, slurm) -> None:
    driver = project.start(*TWO, "+launcher.sbatch.begin=now+1hour")
    slurm.wait_until(lambda: len(slurm.jobs()) == 1)
    assert driver.stdout is not None
    slurm.wait_until(lambda: (project.study() / "check" / "configs.json").exists())
    driver.terminate()
    output = project.end_of(driver)
    assert "2 trials are missing; the same command resumes the sweep." in output
    assert not slurm.jobs()
