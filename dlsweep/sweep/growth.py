"""A regression of the memory that trials need on their swept keys, with prediction bounds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from dlsweep.sweep.space import Dimension

#: The probability that a need is above its lower bound, or below its upper one, if the regression
#: holds.
_SURE = 0.999
#: The fewest trials more than the regression has coefficients.
_SPARE = 3
#: Parts of the smallest peak that may be there whatever the keys are: the process, the framework.
_FIXED = (0.0, 0.5, 0.9, 0.99)
_SMALL = 1e-9
_ABSENT = object()

Vector = npt.NDArray[np.float64]


class Growth:
    """How the need grows: log(peak - fixed) is a linear function of the keys.

    A positive number counts by its logarithm, so that the need is a product of powers.

    Args:
        dimensions: The swept keys.
        rows: The encoded points that fitted.
        peaks: What they needed, in bytes.
        fixed: Bytes that every point needs.

    Attributes:
        largest: The most bytes that fitted.
        least_known: The least bytes that a point has needed.
        unexplained: The share of the variance that the keys do not explain.
    """

    def __init__(
        self, dimensions: Sequence[Dimension], rows: Vector, peaks: Vector, fixed: float
    ) -> None:
        self._dimensions = dimensions
        self._fixed = fixed
        self.largest, self.least_known = float(peaks.max()), float(peaks.min())
        self._first, self._varies = rows[0], (rows != rows[0]).any(axis=0)
        self._middle = rows.mean(axis=0)
        centered, logs = rows - self._middle, np.log(peaks - fixed)
        self._level = float(logs.mean())
        self._inverse = np.linalg.pinv(centered.T @ centered, rcond=_SMALL, hermitian=True)
        self._slopes = self._inverse @ centered.T @ (logs - self._level)
        residuals = logs - self._level - centered @ self._slopes
        self._spanned = self._inverse @ (centered.T @ centered)
        rank = round(float(np.trace(self._spanned)))
        self._spare = len(rows) - 1 - rank
        self._count = len(rows)
        squares, total = float(residuals @ residuals), float(((logs - self._level) ** 2).sum())
        self._variance = squares / self._spare if self._spare > 0 else math.inf
        self.unexplained = squares / total if total > _SMALL else math.inf

    @property
    def is_determined(self) -> bool:
        """Whether there are enough trials."""
        return self._spare >= _SPARE

    @property
    def is_flat(self) -> bool:
        """Whether every point needs the same, so that no key tells which need more."""
        return not math.isfinite(self.unexplained)

    def expected(self, params: Mapping[str, Any]) -> float | None:
        """Returns the bytes that a point needs; None if no trial tells, as of an unseen choice."""
        away = self._from_middle(params)
        return None if away is None else self._bytes(away @ self._slopes)

    def least(self, params: Mapping[str, Any]) -> float:
        """Returns the bytes that a point needs almost surely; 0 if no trial tells."""
        away = self._from_middle(params)
        if away is None:
            return 0.0
        return self._bytes(away @ self._slopes - self._margin(away, 1 + 1 / self._count))

    def most(self, params: Mapping[str, Any]) -> float | None:
        """Returns the bytes that almost surely suffice for a point; None if no trial tells."""
        away = self._from_middle(params)
        if away is None:
            return None
        return self._bytes(away @ self._slopes + self._margin(away, 1 + 1 / self._count))

    def needs_more(self, params: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
        """Whether it is almost sure that a point needs more than another."""
        row, second = encoded(self._dimensions, params), encoded(self._dimensions, other)
        away = self._away(row, second, second)
        return away is not None and float(away @ self._slopes) > self._margin(away, 2)

    def _from_middle(self, params: Mapping[str, Any]) -> Vector | None:
        return self._away(encoded(self._dimensions, params), self._middle, self._first)

    def _away(self, row: Vector, start: Vector, fixed: Vector) -> Vector | None:
        """Returns a point's distance from another; None if no trial tells what it means."""
        away = np.where(self._varies, row - start, 0.0)
        is_known = (row == fixed)[~self._varies].all()
        is_spanned = np.allclose(self._spanned @ away, away, atol=1e-6)
        return away if is_known and is_spanned else None

    def _margin(self, away: Vector, own: float) -> float:
        """Returns by how much a log is above or below the expected one at most, almost surely.

        Args:
            away: The distance between the two points.
            own: The variance of the points themselves, in units of the residual variance.
        """
        from scipy.special import stdtrit  # slow, so only where memory may matter

        error = math.sqrt(self._variance * (own + float(away @ self._inverse @ away)))
        return float(stdtrit(self._spare, _SURE)) * error

    def _bytes(self, above_level: float) -> float:
        return self._fixed + math.exp(min(self._level + above_level, 100.0))


def fit(
    dimensions: Sequence[Dimension], points: Sequence[Vector], peaks: Sequence[float]
) -> Growth | None:
    """Fits the growth to points that fitted; None if they do not determine it.

    Args:
        dimensions: The swept keys.
        points: The encoded points.
        peaks: The bytes that each point needed.
    """
    if len(points) <= _SPARE:
        return None
    rows = np.array(points)
    needs = np.array(peaks, dtype=float)
    fits = [Growth(dimensions, rows, needs, share * needs.min()) for share in _FIXED]
    best = min(fits, key=lambda one: one.unexplained)
    return best if best.is_determined else None


def encoded(dimensions: Sequence[Dimension], params: Mapping[str, Any]) -> Vector:
    """Returns a point as numbers: a key that it does not have is 0 in all of its columns."""
    return np.array([cell for one in dimensions for cell in _cells(one, params)])


def _cells(dimension: Dimension, params: Mapping[str, Any]) -> list[float]:
    value, ends = params.get(dimension.key, _ABSENT), _ends(dimension)
    if ends is None:
        assert isinstance(dimension.distribution, CategoricalDistribution)
        return [float(value is not _ABSENT and value == c) for c in dimension.distribution.choices]
    low, high = ends
    if not (isinstance(value, int | float) and low <= value <= high):
        return [0.0, 0.0]
    scaled = math.log if low > 0 else float
    span = scaled(high) - scaled(low)
    return [1.0, (scaled(value) - scaled(low)) / span if span else 0.0]


def _ends(dimension: Dimension) -> tuple[float, float] | None:
    """Returns the range of a key with numbers; None for one with names, or too few numbers."""
    d = dimension.distribution
    if isinstance(d, IntDistribution | FloatDistribution):
        return float(d.low), float(d.high)
    choices = d.choices if isinstance(d, CategoricalDistribution) else ()
    numbers = [float(one) for one in choices if isinstance(one, int | float) and one is not True]
    if len(numbers) == len(choices) > 2 and min(numbers) > 0:
        return min(numbers), max(numbers)
    return None
