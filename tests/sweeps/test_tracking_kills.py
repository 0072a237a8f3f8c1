"""Driver, trials and mirror are killed again and again; every tracker holds every record once."""

from __future__ import annotations

import contextlib
import csv
import json
import random
import time
from pathlib import Path

import psutil
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

COMMAND = (
    "+experiment=quadratic",
    "tracking=[mlflow,wandb,tensorboard,csv]",
    "tracking.wandb.mode=offline",
    "hydra.sweeper.n_trials=6",
    "training.steps=20",
    "training.seconds=0.1",
    "-m",
)


def test_every_record_is_told_once_however_often_the_driver_is_killed(project) -> None:
    dice = random.Random(11)
    for _ in range(3):
        driver = project.start(*COMMAND)
        deadline = time.monotonic() + dice.uniform(4, 12)
        while driver.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        family = (
            psutil.Process(driver.pid).children(recursive=True) if driver.poll() is None else []
        )
        driver.kill()
        if dice.random() < 0.5:  # at times all that it has started dies with it
            for child in family:
                child.kill()
        driver.communicate()
    said = project.run(*COMMAND)
    study = project.path / "outputs" / "quadratic"
    assert len(project.trials("quadratic")) == 6
    verify(project, said)
    for trial in project.trials("quadratic"):
        with (study / "csv" / f"{trial.name}.csv").open() as file:
            rows = [row for row in csv.DictReader(file) if row["metric"] == "val/loss"]
        told = [(int(row["step"]), float(row["value"])) for row in rows]
        assert told == logged(trial)


def test_a_killed_service_of_wandb_is_started_again_and_told_everything(project) -> None:
    # a service of the process that starts the sweep, which ends when it likes, is not used
    driver = project.start(*COMMAND, WANDB_SERVICE="3-1-unix-/nowhere/socket")
    deadline = time.monotonic() + 60
    while not (services := services_of_wandb(driver.pid)) and time.monotonic() < deadline:
        assert driver.poll() is None, driver.communicate()[0]
        time.sleep(0.05)
    time.sleep(1.0)
    for service in services:
        service.kill()
    said, _ = driver.communicate()
    assert services, said
    assert "wandb is behind and will be tried again" in said
    verify(project, said)


def services_of_wandb(driver: int) -> list[psutil.Process]:
    family = psutil.Process(driver).children(recursive=True)
    with contextlib.suppress(psutil.NoSuchProcess):
        return [child for child in family if "--port-filename" in child.cmdline()]
    return []


def verify(project, said: str) -> None:
    verdict = project.start("verify", str(project.path / "outputs" / "quadratic"))
    found, _ = verdict.communicate(timeout=240)
    assert found == "The study, its folders and its trackers hold the same.\n", said + found


def logged(trial: Path) -> list[tuple[int, float]]:
    lines = map(json.loads, (trial / "records.jsonl").read_text().splitlines())
    return [(line["step"], line["metrics"]["val/loss"]) for line in lines]
