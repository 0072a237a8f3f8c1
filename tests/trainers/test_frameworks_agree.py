"""The same experiment reaches the same accuracy in both frameworks."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf

from dlsweep.run.run import Run
from dlsweep.security.instantiate import instantiate

pytestmark = pytest.mark.slow
CONF = Path(__file__).parents[2] / "conf"


def whole_config(framework: str, **training: object) -> dict:
    """The shipped config files, put together without Hydra's command line."""
    loop = OmegaConf.load(CONF / "training" / "default.yaml")
    del loop["defaults"]
    loop.optimizer = OmegaConf.load(CONF / "training" / "optimizer" / "adam.yaml")
    loop.merge_with(training)
    chosen = OmegaConf.load(CONF / "framework" / f"{framework}.yaml")
    return {
        "framework": chosen.get("framework", chosen),
        "devices": chosen.get("devices", {}),
        "data": OmegaConf.load(CONF / "data" / "mnist.yaml"),
        "model": OmegaConf.load(CONF / "model" / "mlp.yaml"),
        "training": loop,
    }


@pytest.fixture
def mean_accuracy(make_run, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def mean_accuracy(framework: str, number: int) -> float:
        found = []
        for seed in range(5):
            config = {**whole_config(framework, epochs=5), "seed": seed}
            folder = make_run(config, name=f"{number + seed:04d}")
            threads = 1 if framework == "torch" else None  # TensorFlow's are set once a process
            importlib.import_module(f"dlsweep.{framework}").setup(seed, threads=threads)
            with Run.open(folder.path) as run:
                found.append(instantiate(run.config.training).fit(run)["val/accuracy"])
        return float(np.mean(found))

    return mean_accuracy


def test_the_mlp_learns_digits_as_well_in_both_frameworks(mean_accuracy) -> None:
    accuracies = mean_accuracy("torch", 0), mean_accuracy("keras", 10)
    assert accuracies[0] == pytest.approx(accuracies[1], abs=0.005)
    assert min(accuracies) > 0.93
