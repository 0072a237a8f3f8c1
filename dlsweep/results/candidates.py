"""Compares the best points of a sweep, each trained over several seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

#: The level of confidence intervals, and of what is called certain.
LEVEL = 0.95


@dataclass(frozen=True)
class Candidate:
    """A point with its values over several seeds.

    Attributes:
        name: The option of the group ``best`` that trains it again.
        values: The value of the objective by seed.
        trials: The number of the trial by seed.
    """

    name: str
    values: Mapping[int, float]
    trials: Mapping[int, int]

    @property
    def mean(self) -> float:
        """The mean of the values."""
        return float(np.mean(list(self.values.values())))

    def interval(self) -> tuple[float, float] | None:
        """Returns the confidence interval of the mean, by Student's t; None for one value."""
        return _interval(list(self.values.values()))


@dataclass(frozen=True)
class Difference:
    """How much better one candidate is than another, over the seeds that both have.

    Attributes:
        mean: The mean difference; positive if the first is better.
        interval: Its confidence interval; None for fewer than two seeds.
        p_value: The probability of a mean difference as large as this, in either direction, between
            candidates that are equally good: Student's paired t-test. None for fewer than two.
        seeds: The number of seeds.
    """

    mean: float
    interval: tuple[float, float] | None
    p_value: float | None
    seeds: int

    @property
    def is_certain(self) -> bool:
        """Whether the first is better at the level of :data:`LEVEL`."""
        return self.p_value is not None and self.mean > 0 and self.p_value < 1 - LEVEL


def ranked(candidates: Sequence[Candidate], direction: str) -> list[Candidate]:
    """Sorts candidates by their means, the best first.

    Args:
        candidates: The candidates.
        direction: ``maximize`` or ``minimize``.
    """
    return sorted(candidates, key=lambda one: one.mean, reverse=direction == "maximize")


def difference(first: Candidate, second: Candidate, direction: str) -> Difference:
    """Compares two candidates seed by seed."""
    sign = 1 if direction == "maximize" else -1
    seeds = sorted(first.values.keys() & second.values.keys())
    gains = [sign * (first.values[seed] - second.values[seed]) for seed in seeds]
    mean = float(np.mean(gains)) if gains else first.mean - second.mean
    return Difference(mean, _interval(gains), _p_value(gains), len(seeds))


def _interval(values: Sequence[float]) -> tuple[float, float] | None:
    if len(values) < 2:
        return None
    from scipy import stats

    mean, error = float(np.mean(values)), float(stats.sem(values))
    if not error:
        return mean, mean
    low, high = stats.t.interval(LEVEL, len(values) - 1, mean, error)
    return float(low), float(high)


def _p_value(gains: Sequence[float]) -> float | None:
    if len(gains) < 2:
        return None
    if not np.ptp(gains):  # every seed has the same difference
        return 0.0 if gains[0] else 1.0
    from scipy import stats

    return float(stats.ttest_1samp(gains, 0.0).pvalue)


def verdict(first: str, second: str, found: Difference) -> str:
    """Says in a sentence whether the first candidate is really better than the second.

    Args:
        first: The name of the first.
        second: The name of the second.
        found: The difference.
    """
    if found.p_value is None or found.interval is None:
        return f"{first} is ahead of {second}; one seed cannot tell whether by chance."
    low, high = found.interval
    size = (
        f"{found.mean:.4g} ({LEVEL:.0%} interval {low:.4g} to {high:.4g}, {found.seeds} seeds, "
        f"p = {found.p_value:.2g})"
    )
    if found.is_certain:
        return f"{first} is better than {second} by {size}."
    return f"{first} is ahead of {second} by {size}: that may be chance. More seeds would tell."
