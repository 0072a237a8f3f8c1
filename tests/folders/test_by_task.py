"""Loss, monitored metric and mode follow the task unless they are given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

import dlsweep.folders.by_task  # noqa: F401 - registers the resolvers

CONF = Path(__file__).parents[2] / "conf"


@pytest.mark.parametrize(
    ("data", "training", "expected"),
    [
        ({}, {}, ["cross_entropy", "val/accuracy", "max"]),
        ({"task": None}, {}, ["cross_entropy", "val/accuracy", "max"]),
        ({"task": "classification"}, {}, ["cross_entropy", "val/accuracy", "max"]),
        ({"task": "regression"}, {}, ["mse", "val/loss", "min"]),
        ({"task": "regression"}, {"monitor": "val/r2"}, ["mse", "val/r2", "max"]),
        ({"task": "regression"}, {"monitor": "val/mae"}, ["mse", "val/mae", "min"]),
        ({"task": "regression"}, {"mode": "max"}, ["mse", "val/loss", "max"]),
        ({"task": "regression"}, {"loss": "mine"}, ["mine", "val/accuracy", "max"]),
        ({}, {"loss": "mse"}, ["mse", "val/loss", "min"]),
        ({}, {"monitor": "val/loss"}, ["cross_entropy", "val/loss", "min"]),
        ({}, {"monitor": "val/f1"}, ["cross_entropy", "val/f1", "max"]),
    ],
)
def test_what_is_not_given_follows_the_task(data: Any, training: Any, expected: list) -> None:
    config = OmegaConf.create({"data": data})
    config.training = OmegaConf.load(CONF / "training" / "default.yaml")
    config.merge_with({"training": training})
    assert [config.training[name] for name in ("loss", "monitor", "mode")] == expected


def test_a_loss_of_ones_own_keeps_the_accuracy() -> None:
    config = OmegaConf.load(CONF / "training" / "default.yaml")
    config.loss = {"_target_": "my.Loss"}
    assert OmegaConf.create({"training": config}).training.monitor == "val/accuracy"
