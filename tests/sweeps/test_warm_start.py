"""A sweep starts warm, is killed, and goes on as if nothing had happened."""

from __future__ import annotations

import os
import shutil
import signal
import time
from contextlib import closing
from pathlib import Path

import pandas as pd
import pytest

from dlsweep.folders.rundir import Result
from dlsweep.sweep.earlier import EarlierStudy, EarlierTrial
from dlsweep.sweep.study import Study, StudySettings

pytestmark = pytest.mark.slow
QUADRATIC = ("+experiment=quadratic", "tracking=[csv]", "hydra/sweeper/pruner=none")
WARM = (*QUADRATIC, "hydra.sweeper.warm_start=[outputs/quadratic]", "hydra.sweeper.n_jobs=1")
#: The values of the earlier trials, of which none is the best possible.
X = (-5, -4, -3, -2, -1, 0, 1, 3, 4, 5)


def points(table: pd.DataFrame) -> list[tuple[float, float]]:
    return list(zip(table["training.x"], table["training.y"], strict=True))


def test_a_warm_sweep_counts_its_own_trials_and_survives_a_kill(project) -> None:
    once = (*QUADRATIC, "training.steps=1", "hydra.sweeper.seed=0", "-m")
    project.run(*once, "hydra.sweeper.n_trials=12")
    warm = (*WARM, "hydra.sweeper.seed=0", "hydra.sweeper.n_trials=5", "-m")
    output = project.run(*warm, "training.steps=1", "hydra.sweeper.study_name=whole")
    assert "Warm start from outputs/quadratic: 12 trials (12 completed); the keys training.x, " in (
        output
    )
    assert "whole: 5 trials (5 completed)" in output
    slow = (*warm, "training.steps=1", "training.seconds=0.5", "hydra.sweeper.study_name=parts")
    driver = project.start(*slow)
    while not (project.path / "outputs/parts/trials/0002").exists():
        assert driver.poll() is None
        time.sleep(0.05)
    os.killpg(driver.pid, signal.SIGKILL)
    driver.communicate()
    shutil.rmtree(project.path / "outputs/quadratic")
    assert "parts: 5 trials (5 completed)" in project.run(*slow)
    assert points(project.table("parts")) == points(project.table("whole"))
    assert "hydra.sweeper.warm_start: was" in project.run(
        *(word for word in slow if "warm_start" not in word), code=1
    )


def test_a_gaussian_process_starts_warm_and_resumes(make_space, tmp_path: Path) -> None:
    """Here, because Optuna's GPSampler imports PyTorch."""
    space = make_space("+training.x=interval(-5.0,5.0)")
    trials = [EarlierTrial({"training.x": float(x)}, [(x - 2.0) ** 2], None, False) for x in X]
    sampler = {"_target_": "optuna.samplers.GPSampler", "seed": None, "n_startup_trials": 10}

    def asked(name: str, *counts: int) -> list[float]:
        values = []
        for count in counts:
            settings = StudySettings(
                name="study",
                storage=f"sqlite:///{tmp_path / name}",
                objective=["loss"],
                directions=["minimize"],
                sampler=sampler,
                pruner={},
                seed=0,
                warm_start=[EarlierStudy("old", trials, 0)],
            )
            with closing(Study(settings, space)) as study:
                study.begin()
                for _ in range(count):
                    trial = study.ask()
                    values.append(float(trial.params["training.x"]))
                    loss = (values[-1] - 2.0) ** 2
                    study.tell(trial, Result("completed", metrics={"loss": loss}))
        return values

    whole = asked("whole.db", 4)
    assert abs(whole[0] - 2) < 0.5
    assert asked("parts.db", 1, 3) == whole


def test_a_sampler_of_a_local_copy_of_optunahub_sweeps(project) -> None:
    folder: Path = project.path / "registry" / "samplers" / "middle"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text(
        "import optuna\n"
        "class Middle(optuna.samplers.RandomSampler):\n"
        "    def sample_independent(self, study, trial, name, distribution):\n"
        "        return (distribution.low + distribution.high) / 2\n"
    )
    hub = (*QUADRATIC, "hydra/sweeper/sampler=hub", "hydra.sweeper.sampler.package=samplers/middle")
    copy = "hydra.sweeper.sampler.registry_root=registry"
    project.run(*hub, copy, "training.steps=1", "hydra.sweeper.n_trials=2", "-m")
    assert points(project.table("quadratic")) == [(0.0, 0.0)] * 2
