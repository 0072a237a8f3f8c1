"""Which epoch is best, and when to give up."""

from __future__ import annotations

import pytest

from dlsweep.errors import ConfigError
from dlsweep.trainers.early_stopping import EarlyStopping, Progress


def followed(values: list[float], mode: str, min_delta: float = 0.0) -> tuple[Progress, list[bool]]:
    progress = Progress()
    marks = [
        progress.end_epoch({"m": value, "epoch": epoch}, "m", mode, min_delta)
        for epoch, value in enumerate(values, start=1)
    ]
    return progress, marks


@pytest.mark.parametrize(
    ("mode", "values", "best", "marks"),
    [
        ("max", [0.5, 0.7, 0.6], 2, [True, True, False]),
        ("min", [0.5, 0.7, 0.6], 1, [True, False, False]),
        ("max", [0.5, 0.7, 0.7], 3, [True, True, True]),
        ("min", [-1.0, -2.0, -1.5], 2, [True, True, False]),
        ("max", [0.0, 0.0], 2, [True, True]),
    ],
)
def test_the_best_epoch_is_the_last_of_those_with_the_best_value(mode, values, best, marks):
    progress, seen = followed(values, mode)
    assert progress.best["epoch"] == best
    assert seen == marks


@pytest.mark.parametrize(
    ("values", "min_delta", "waited"),
    [
        ([0.5, 0.6, 0.7], 0.0, 0),
        ([0.5, 0.5, 0.5], 0.0, 2),
        ([0.5, 0.7, 0.6, 0.6], 0.0, 2),
        ([0.50, 0.54, 0.58], 0.05, 0),  # small steps add up to an improvement
        ([0.50, 0.54, 0.54], 0.05, 2),
    ],
)
def test_patience_counts_the_epochs_since_an_improvement(values, min_delta, waited):
    progress, _ = followed(values, "max", min_delta)
    assert progress.waited == waited


def test_progress_goes_on_from_its_saved_state():
    before, _ = followed([0.5, 0.7, 0.6], "max")
    after = Progress()
    after.load_state_dict(before.state_dict())
    for progress in (before, after):
        progress.end_epoch({"m": 0.65, "epoch": 4}, "m", "max", 0.0)
    assert after == before
    assert after.waited == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"patience": 0}, r"patience: Received 0\. .* null"),
        ({"min_delta": -0.1}, r"min_delta: Received -0\.1"),
        ({"min_delta": float("inf")}, "min_delta: Received inf"),
    ],
)
def test_an_argument_out_of_its_range_is_refused(arguments: dict, message: str):
    with pytest.raises(ConfigError, match=message):
        EarlyStopping(**arguments)
