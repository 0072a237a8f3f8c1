"""Runs of either framework, made from a config as the command line would, trained in process."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dlsweep.folders.rundir import RunDir
from dlsweep.run.run import Run
from dlsweep.trial.signature import build

_DATA = """
import numpy as np
from dlsweep.data import Data, Split

def points(classes):
    targets = np.arange(90) % classes
    noise = np.random.default_rng(0).normal(size=(90, 2))
    inputs = np.eye(classes, 2)[targets] * 3 + noise
    return Data(Split(inputs, targets), Split(inputs[:30], targets[:30]))
"""
_NAMES = {
    "torch": {
        "trainer": "dlsweep.torch.TorchTrainer",
        "models": "dlsweep.torch",
        "optimizers": "torch.optim",
        "schedulers": "torch.optim.lr_scheduler",
    },
    "keras": {
        "trainer": "dlsweep.keras.KerasTrainer",
        "models": "dlsweep.keras",
        "optimizers": "dlsweep.keras.optimizers",
        "schedulers": "dlsweep.keras.schedulers",
    },
}


class CrashError(Exception):
    pass


class Disturbed(Run):
    """A run that is broken off at the end of an epoch."""

    crash_at: int = 0

    def log(self, metrics: dict[str, float], step: int) -> None:
        if step == self.crash_at:
            raise CrashError
        super().log(metrics, step)


class Lab:
    """Makes runs of one framework and trains them.

    Attributes:
        framework: Its name.
    """

    def __init__(self, framework: str, make_run: Callable[..., RunDir]) -> None:
        self.framework = framework
        self._make_run = make_run
        self._made = 0

    def run(
        self,
        classes: int = 3,
        model: dict[str, Any] | None = None,
        optimizer: str = "Adam",
        scheduler: str = "StepLR",
        lr: float = 0.01,
        **training: Any,
    ) -> RunDir:
        """A new run, not trained yet."""
        names = _NAMES[self.framework]
        step = {"_target_": f"{names['schedulers']}.StepLR", "_partial_": True, "step_size": 2}
        cosine = {"_target_": f"{names['schedulers']}.CosineAnnealingLR", "_partial_": True}
        sgd_or_adam = {"_target_": f"{names['optimizers']}.{optimizer}", "_partial_": True}
        config = {
            "model": {
                "_target_": f"{names['models']}.MLP",
                "input_shape": [2],
                "classes": classes,
                "hidden": 8,
                "dropout": 0.5,
                **(model or {}),
            },
            "data": {"_target_": "saving_data.points", "classes": classes},
            "training": {
                "_target_": names["trainer"],
                "optimizer": {**sgd_or_adam, "lr": lr},
                "scheduler": step if scheduler == "StepLR" else {**cosine, "T_max": 9},
                "epochs": 5,
                "batch_size": 30,
                **training,
            },
        }
        self._made += 1
        return self._make_run(
            config,
            name=f"{self._made:04d}",
            objective=[training.get("monitor", "val/accuracy")],
            directions=["minimize" if training.get("mode") == "min" else "maximize"],
        )

    def train(self, folder: RunDir, seed: int = 0, crash_at: int = 0) -> dict[str, float]:
        """Trains a run, or goes on with it."""
        importlib.import_module(f"dlsweep.{self.framework}").setup(seed=seed)
        with Disturbed.open(folder.path) as run:
            run.crash_at = crash_at
            return build("training", run.config.training).fit(run)

    def trained(self, **config: Any) -> RunDir:
        """A new run, trained."""
        folder = self.run(**config)
        self.train(folder)
        return folder

    def break_off(self, folder: RunDir, crash_at: int, seed: int = 0) -> None:
        """Trains a run whose last epoch is the one before this."""
        with pytest.raises(CrashError):
            self.train(folder, seed, crash_at)

    def broken_off(self, crash_at: int, **config: Any) -> RunDir:
        """A new run, trained so far."""
        folder = self.run(**config)
        self.break_off(folder, crash_at)
        return folder

    def arrays(self, checkpoint: Path) -> dict[str, np.ndarray]:
        """The weights that a checkpoint holds, then what its optimizer knows of them."""
        if self.framework == "keras":
            arrays: dict[str, np.ndarray] = {}
            for name in ("variables.npz", "resume.npz"):
                with np.load(checkpoint / name) as values:
                    arrays |= dict(values)
            return arrays
        import torch

        weights = torch.load(checkpoint / "state.pt", weights_only=True)
        state = torch.load(checkpoint / "resume.pt", weights_only=True)
        found = {name: value.numpy() for name, value in weights["model"].items()}
        for number, each in state["optimizer"]["state"].items():
            found |= {f"optimizer/{number}/{name}": value.numpy() for name, value in each.items()}
        return found


@pytest.fixture
def make_lab(
    make_run: Callable[..., RunDir], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], Lab]:
    (tmp_path / "saving_data.py").write_text(_DATA)
    monkeypatch.syspath_prepend(str(tmp_path))
    return lambda framework: Lab(framework, make_run)


@pytest.fixture(params=["torch", "keras"])
def lab(request: pytest.FixtureRequest, make_lab: Callable[[str], Lab]) -> Lab:
    return make_lab(request.param)


@pytest.fixture
def torch_lab(make_lab: Callable[[str], Lab]) -> Lab:
    return make_lab("torch")
