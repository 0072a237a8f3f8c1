"""Slurm's own daemons are killed while a sweep runs."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.slow
SLURM = ("launcher=slurm", "-m")
WALK = (*SLURM, "training._target_=walk.train", "training.seconds=0.4")


def test_a_trial_does_not_notice_that_its_nodes_daemon_starts_again(project, slurm) -> None:
    driver = project.start(*WALK, "training.steps=14", "training.x=range(1)")
    slurm.wait_until(lambda: project.is_training(3))
    node = int(slurm.jobs("%N")[0].removeprefix("n"))
    slurm.kill_node(node)
    slurm.start_node(node)
    project.end_of(driver)
    project.assert_exactly_once(1)
    assert project.attempts(project.trials()[0]) == 1


def test_a_job_that_slurm_starts_a_second_time_is_trained_once(project, slurm) -> None:
    """Jobs of a lost node start elsewhere; where only the node's daemon is gone, they run on."""
    gated = ("training._target_=gated.train", "training.x=range(1)")
    driver = project.start(*SLURM, *gated)
    slurm.wait_until(lambda: project.is_training(4))
    node = slurm.jobs("%N")[0]
    number = int(node.removeprefix("n"))
    (first,) = project.training()
    slurm.kill_node(number)
    slurm.ask("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=lost")
    try:
        slurm.wait_until(lambda: bool(list(project.study().glob("workers/*/worker-2.jsonl"))))
        assert project.training() == [first], "the first still trains"
        slurm.wait_until(lambda: project.training() not in ([], [first]))
        slurm.wait_until(lambda: not slurm.tasks_of_node(number))
        (project.path / "go").touch()
        output = project.end_of(driver)
    finally:
        slurm.start_node(number)  # which makes it idle again
    assert "0000 node_lost" in output
    assert "1 trials (1 completed)" in output
    assert not project.training()


def test_a_sweep_goes_on_while_the_controller_is_away(project, slurm) -> None:
    """Each trial is a job: one ends meanwhile, and the next is submitted when Slurm is back."""
    impatient = project.path / "slurm.conf"
    impatient.write_text("MessageTimeout=3\n" + slurm.config.read_text())
    asked = ("training.steps=8", "training.x=range(2)", "launcher.trials_per_job=1")
    driver = project.start(*WALK, *asked, SLURM_CONF=str(impatient))
    slurm.wait_until(lambda: project.is_training(3))
    slurm.end_controller()
    try:
        told = next(line for line in driver.stdout if "Slurm's controller does not" in line)
        assert "The running trials go on" in told
    finally:
        slurm.start_controller()
    project.end_of(driver)
    project.assert_exactly_once(2)
    assert {project.attempts(trial) for trial in project.trials()} == {1}
