"""Jobs that Slurm ends, at its real time limit and otherwise. It takes minutes."""

from __future__ import annotations

import re

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
SLURM = ("launcher=slurm", "-m")
LIMIT = (*SLURM, "launcher.time=3", "training.x=1", "training.seconds=1")


@pytest.fixture(autouse=True)
def _only_in_the_long_form(request: pytest.FixtureRequest) -> None:
    if not request.config.getoption("--long-faults"):
        pytest.skip("it takes minutes: only with --long-faults")


def test_a_trial_goes_on_in_its_requeued_job_however_often_the_limit_strikes(
    project, slurm
) -> None:
    """The other slot is idle by then: its worker leaves, too, and comes back."""
    long = 260  # Slurm warns of the limit after 60 to 120 s
    walk = ("training._target_=walk.train", f"training.steps=2,{long}")
    driver = project.start(*LIMIT, *walk, "launcher.slots=2", "launcher.signal_delay_s=60")
    slurm.wait_until(lambda: len(slurm.jobs()) == 2)
    jobs = slurm.jobs()
    output = project.end_of(driver)
    project.assert_exactly_once(2)
    work = (project.trials()[1] / "work.txt").read_text().split()
    assert len(work) == long, "a step was done again"
    strikes = project.attempts(project.trials()[1]) - 1
    assert strikes >= 2, output
    assert output.count("0001 preempted; it will be retried") == strikes
    told = "".join(slurm.ask("scontrol", "show", "job", job) for job in jobs)
    restarts = [int(found) for found in re.findall(r"Restarts=(\d+)", told)]
    assert min(restarts) >= 1, "each of the two was requeued"
    assert sum(restarts) >= strikes


def test_a_trial_that_does_not_end_in_time_is_lost_with_its_job_and_goes_on(project) -> None:
    deaf = ("training._target_=deaf.train", "training.steps=choice(260)")
    output = project.run(*LIMIT, *deaf, "launcher.signal_delay_s=20")
    project.assert_exactly_once(1)
    said = (
        r"job \d+ has ended: TIMEOUT\. What ran there had not ended launcher\.signal_delay_s after"
    )
    assert re.search(said, output), output
    assert "0000 node_lost" in output


def test_a_trial_that_takes_its_jobs_along_ends_alone(project) -> None:
    fatal = ("training._target_=fatal.train", "training.x=range(3)")
    output = project.run(*SLURM, *fatal)
    assert list(project.table()["state"]) == ["node_lost", "completed", "completed"], output
    assert output.count("0000 node_lost") == 4
