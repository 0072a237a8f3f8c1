"""Every end has its name, and the policy that config gives to that name is kept."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest

from dlsweep.errors import ConfigError
from dlsweep.sweep.failures import read_policies

pytestmark = pytest.mark.slow
ENDINGS = ("tracking=none", "training._target_=endings.train", "hydra.sweeper.max_failure_rate=1")
LIMITS = ("hydra.sweeper.step_timeout=3", "hydra.sweeper.trial_timeout=6", "hydra.sweeper.grace=1")
#: By x: how the trial ends, and how its earlier attempts did.
ENDS = [
    ("completed", []),
    ("stopped_early", []),
    ("completed", ["preempted"]),
    ("crashed", ["crashed"]),
    ("killed", ["killed", "killed"]),
    ("out_of_memory", ["out_of_memory"]),
    ("diverged", ["diverged"]),
    ("timed_out", ["timed_out"]),
    ("timed_out", ["timed_out"]),
    ("crashed", ["crashed"]),
    ("crashed", ["crashed"]),
    ("crashed", ["crashed"]),
    ("timed_out", ["preempted"] * 5),
]


@pytest.fixture(scope="module")
def ended(undisturbed):
    """A sweep in which each trial ends in another way."""
    undisturbed.run(*ENDINGS, *LIMITS, f"training.x=range({len(ENDS)})", "-m")
    return undisturbed


def attempts(trial: Path) -> list[str]:
    file = trial / "attempts.jsonl"
    lines = file.read_text().splitlines() if file.exists() else []
    return [json.loads(line)["status"] for line in lines]


def test_each_end_has_its_name_and_is_tried_again_as_its_policy_says(ended) -> None:
    assert list(ended.table("quadratic")["state"]) == [end for end, _ in ENDS]
    assert list(map(attempts, ended.trials("quadratic"))) == [earlier for _, earlier in ENDS]


def test_each_failure_has_a_reason_that_a_person_understands(ended) -> None:
    reasons = ended.table("quadratic")["reason"]
    assert reasons[3] == "crashed: ValueError: a bug of the user's"
    assert reasons[4] == "killed: killed by SIGKILL"
    assert reasons[5].startswith("out_of_memory: MemoryError")
    assert reasons[6] == "diverged: val/loss is nan"
    assert reasons[7] == "timed_out: no record for hydra.sweeper.step_timeout=3 s"
    assert reasons[8] == "timed_out: it took more than hydra.sweeper.trial_timeout=6 s"
    assert reasons[9] == "crashed: its process ended with exit code 3 and no result"
    assert reasons[10] == "crashed: SystemExit: 3"
    assert reasons[11] == "crashed: KeyboardInterrupt"
    lost = "timed_out: preempted 5 times, the last 5 without a newer checkpoint. Save"
    assert reasons[12].startswith(lost)


def test_the_sampler_is_told_which_points_are_infeasible(ended) -> None:
    storage = f"sqlite:///{ended.study('quadratic')}/study.db"
    trials = optuna.load_study(study_name="quadratic", storage=storage).trials
    violated = {trial.number: trial.constraints for trial in trials if trial.constraints}
    assert violated == {5: {"out_of_memory": 1.0}, 6: {"diverged": 1.0}}


def test_a_single_run_has_its_limits_too_also_when_it_goes_on(sweeps) -> None:
    hung = ENDS.index(("timed_out", ["timed_out"]))
    sentence = "The run timed_out: no record for hydra.sweeper.step_timeout=3 s"
    alone = ("tracking=none", "training._target_=endings.train", *LIMITS)
    assert sentence in sweeps.run(*alone, f"training.x={hung}", code=1)
    (run,) = sweeps.study("quadratic").glob("runs/*")
    command = [sys.executable, "-m", "dlsweep", "resume", str(run)]
    again = subprocess.run(command, cwd=sweeps.path, capture_output=True, text=True)
    assert sentence in again.stderr


def test_limits_that_cannot_be_kept_are_said(sweeps) -> None:
    arguments = ("tracking=none", "training.steps=1", "launcher=inline")
    said = "Trials run in this process, so time limits do not apply."
    assert said in sweeps.run(*arguments, "hydra.sweeper.step_timeout=3")
    assert said not in sweeps.run(*arguments, "hydra.sweeper.study_name=other")


def test_a_policy_of_ones_own(sweeps) -> None:
    output = sweeps.run(
        *ENDINGS,
        "hydra.sweeper.failures.crashed.retries=2",
        "hydra.sweeper.failures.crashed.pause=0.2",
        "training.x=choice(3)",
        "-m",
        code=1,
    )
    assert attempts(sweeps.trials("quadratic")[0]) == ["crashed"] * 3
    assert "0000 crashed: ValueError: a bug of the user's; it will be retried in 0.2 s." in output
    assert "No trial has completed" in output


def test_a_limit_of_preemptions_ends_a_trial_for_good(sweeps) -> None:
    limit = "hydra.sweeper.failures.preempted.retries=1"
    forgetful = len(ENDS) - 1
    output = sweeps.run(*ENDINGS, limit, f"training.x=choice({forgetful})", "-m", code=1)
    assert attempts(sweeps.trials("quadratic")[0]) == ["preempted"] * 2
    said = "0000 preempted: it has saved no newer checkpoint; it will be retried."
    assert output.count(said) == 1
    assert "preempted 2 times, the last 2 without" in sweeps.table("quadratic")["reason"][0]
    assert len(sweeps.trials("quadratic")) == 1, "another one was tried in its place"


@pytest.mark.parametrize(
    ("end", "options", "message"),
    [
        ("kiled", {}, "Did you mean 'killed'"),
        ("killed", {"retry": 1}, "Expected retries, pause, counts, infeasible"),
        ("killed", {"retries": -1}, "Expected a whole number, or null"),
        ("killed", {"pause": -1}, "Expected seconds from 0"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(end: str, options: dict, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        read_policies({end: options})
    assert message in str(error.value)


def test_a_preempted_trial_saves_within_its_grace_and_goes_on(sweeps) -> None:
    arguments = ("tracking=none", "training._target_=walk.train", "training.x=choice(1)", "-m")
    driver = sweeps.start(*arguments, "training.steps=50", "training.seconds=0.1")
    trial = sweeps.study("quadratic") / "trials" / "0000"
    work, done = trial / "work.txt", 0
    for _ in range(2):
        wait_for_lines(work, done + 3)  # so that there is one that trains
        (pid,) = sweeps.training_in("quadratic")
        os.kill(pid, signal.SIGTERM)  # as a scheduler does, which kills when the grace is over
        wait_until_gone(pid)
        done = len(work.read_text().splitlines())
    output, _ = driver.communicate(timeout=60)
    assert driver.returncode == 0, output
    assert attempts(trial) == ["preempted", "preempted"]
    steps = [str(step) for step in range(1, 51)]
    assert work.read_text().split() == steps, "saved, so that no step was repeated"


def wait_for_lines(file: Path, count: int) -> None:
    wait_for(lambda: file.exists() and len(file.read_text().splitlines()) >= count)


def wait_until_gone(pid: int) -> None:
    wait_for(lambda: not Path(f"/proc/{pid}").exists())


def wait_for(event: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not event():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def test_the_parent_of_all_trials_may_die(sweeps) -> None:
    arguments = ("tracking=none", "training._target_=walk.train", "training.x=1,2", "-m")
    driver = sweeps.start(*arguments, "training.steps=30")
    trial = sweeps.study("quadratic") / "trials" / "0000"
    wait_for_lines(trial / "work.txt", 5)
    children = Path(f"/proc/{driver.pid}/task/{driver.pid}/children").read_text().split()
    os.kill(int(children[0]), signal.SIGKILL)
    output, _ = driver.communicate(timeout=60)
    assert driver.returncode == 0, output
    assert "exit code -9; starting another one" in output
    assert "node_lost" in attempts(trial)
    sweeps.assert_exactly_once("quadratic", 2)
