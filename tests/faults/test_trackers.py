"""Driver, trials, mirror and W&B's service are killed; every tracker holds every record once."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

COMMAND = (
    "tracking=[mlflow,wandb,tensorboard,csv]",
    "tracking.wandb.mode=offline",
    "training.seconds=0.1",
    "-m",
)


@pytest.mark.parametrize("whom", ["kills of the driver", "kills of the driver and all trials"])
def test_every_record_is_told_once_whoever_is_killed(sweeps, times, whom: str) -> None:
    kills = times("kills under all trackers")
    count = 4 + 2 * kills
    arguments = (*COMMAND, "training.steps=12", f"hydra.sweeper.n_trials={count}")
    assert sweeps.kill_at_random(whom, kills, *arguments, longest=7)
    assert len(sweeps.trials("quadratic")) == count
    assert_told(sweeps)
    for trial in sweeps.trials("quadratic"):
        with (sweeps.study("quadratic") / "csv" / f"{trial.name}.csv").open() as file:
            rows = [row for row in csv.DictReader(file) if row["metric"] == "val/loss"]
        told = [(int(row["step"]), float(row["value"])) for row in rows]
        assert told == logged(trial)


def test_a_killed_service_of_wandb_is_started_again_and_told_everything(
    sweeps, processes_below
) -> None:
    # a service of the process that starts the sweep, which ends when it likes, is not used
    arguments = (*COMMAND, "training.steps=20", "hydra.sweeper.n_trials=6")
    driver = sweeps.start(*arguments, WANDB_SERVICE="3-1-unix-/nowhere/socket")
    deadline = time.monotonic() + 120  # a busy machine starts it late, as the mirror is nice
    while not (services := services_of_wandb(processes_below(driver.pid))):
        assert time.monotonic() < deadline
        assert driver.poll() is None
        time.sleep(0.05)
    time.sleep(1.0)
    for service in services:
        os.kill(service, signal.SIGKILL)
    driver.communicate()
    assert_told(sweeps)


def services_of_wandb(processes: list[int]) -> list[int]:
    return [pid for pid in processes if "--port-filename" in command_of(pid)]


def command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:  # it has ended
        return ""


def assert_told(sweeps) -> None:
    verify = [sys.executable, "-m", "dlsweep", "verify", str(sweeps.study("quadratic"))]
    found = subprocess.run(verify, capture_output=True, text=True)
    assert found.stdout == "The study, its folders and its trackers agree.\n", found


def logged(trial: Path) -> list[tuple[int, float]]:
    lines = map(json.loads, (trial / "records.jsonl").read_text().splitlines())
    return [(line["step"], line["metrics"]["val/loss"]) for line in lines]
