"""Starts runs as the launcher does, each in processes of its own."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from dlsweep.folders.rundir import RunDir
from dlsweep.launchers.local import LocalJob, LocalLauncher

CONF = Path(__file__).parents[2] / "conf"


class Trial:
    """A run, trained in a process of its own as the launcher starts it."""

    def __init__(self, folder: RunDir, launcher: LocalLauncher) -> None:
        self.folder = folder
        self.job: LocalJob
        self._launcher = launcher

    def start(self) -> Trial:
        self.job = self._launcher.submit(["-m", "dlsweep"], self.folder)
        return self

    def run(self) -> Trial:
        self.start().wait(60)
        return self

    def go_on(self, replicas: int) -> None:
        """Goes on with what has stopped, on another number of devices."""
        assert self.result["status"] == "preempted", self.log
        config = OmegaConf.load(self.folder.config_file)
        config.training.replicas = replicas
        OmegaConf.save(config, self.folder.config_file)
        self.folder.clear()
        self.run()

    def wait(self, seconds: float) -> int | None:
        """Until it has ended; returns its exit code."""
        until = time.monotonic() + seconds
        while self.job.poll() is None:
            if time.monotonic() > until:
                self.job.kill()
            self._launcher.wait(0.05)
        return self.job.poll()

    @property
    def log(self) -> str:
        return self.folder.log_file.read_text()

    @property
    def result(self) -> dict:
        return json.loads((self.folder.path / "result.json").read_text())

    @property
    def curve(self) -> list[dict[str, float]]:
        return [record.metrics for record, _ in self.folder.records() if record.metrics]

    def assert_same_curve(self, other: Trial) -> None:
        """Within rounding errors, to the end."""
        assert len(self.curve) > 1, self.log
        assert len(other.curve) == len(self.curve), other.log
        for mine, yours in zip(self.curve, other.curve, strict=True):
            assert list(mine) == list(yours)
            assert yours == pytest.approx(mine, rel=1e-4, abs=1e-6)

    def wait_for_step(self, step: int) -> None:
        until = time.monotonic() + 60
        while not any(record.step >= step for record, _ in self.folder.records()):
            assert time.monotonic() < until, self.log
            self._launcher.wait(0.02)


@pytest.fixture(scope="module")
def launcher(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    """Forks trials of the framework of the tests' module, one at a time, with two cores."""
    framework = request.module.FRAMEWORK
    launcher = LocalLauncher(
        cpus_per_trial=2, gpus_per_trial=0, preload=framework["preload"], env=framework["env"]
    )
    launcher.start(
        lambda folder: "pruned" if (folder.path / "prune").exists() else None,
        tmp_path_factory.mktemp("study"),
    )
    yield launcher
    launcher.close()


@pytest.fixture
def trial(
    request: pytest.FixtureRequest,
    make_run: Callable[..., RunDir],
    launcher: LocalLauncher,
    monkeypatch: pytest.MonkeyPatch,
):
    """Makes a run of the framework of the tests' module."""
    monkeypatch.chdir(Path(__file__).parent / "trainings")

    def make(name: str = "0000", *, data: str, model: dict, **training: object) -> Trial:
        loop = OmegaConf.load(CONF / "training" / "default.yaml")
        del loop["defaults"]
        loop.optimizer = OmegaConf.load(CONF / "training" / "optimizer" / "adam.yaml")
        loop.merge_with({"batch_size": 13, "epochs": 3, "optimizer": {"lr": 0.05}, **training})
        config = {
            "seed": 0,
            "framework": request.module.FRAMEWORK,
            "data": {"_target_": data},
            "model": model,
            "training": loop,
            "system_metrics": None,
        }
        return Trial(make_run(config, name=name), launcher)

    return make
