"""Learning rates over the epochs."""

from __future__ import annotations

import pytest

from dlsweep.errors import ConfigError
from dlsweep.trainers.schedules import WarmupCosine


def test_the_rate_rises_in_a_line_and_falls_in_a_cosine() -> None:
    factor = WarmupCosine(epochs=7, warmup_epochs=3, min_factor=0.1)
    assert [factor(epoch) for epoch in range(3)] == pytest.approx([0.25, 0.5, 0.75])
    assert [factor(epoch) for epoch in (3, 5, 7, 9)] == pytest.approx([1.0, 0.55, 0.1, 0.1])


def test_without_a_warm_up_it_is_a_cosine() -> None:
    factor = WarmupCosine(epochs=2, warmup_epochs=0)
    assert [factor(epoch) for epoch in range(3)] == pytest.approx([1.0, 0.5, 0.0])


@pytest.mark.parametrize(
    ("warmup", "least", "message"),
    [
        (5, 0.0, r"warmup_epochs: Received 5 of 5 epochs"),
        (-1, 0.0, r"warmup_epochs: Received -1"),
        (1, 1.5, r"min_factor: Received 1\.5"),
    ],
)
def test_a_schedule_that_cannot_be_is_refused(warmup: int, least: float, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        WarmupCosine(epochs=5, warmup_epochs=warmup, min_factor=least)
