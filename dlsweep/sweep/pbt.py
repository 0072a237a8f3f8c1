"""The rules of population based training: who copies whom, and how hyperparameters change.

Jaderberg et al., "Population Based Training of Neural Networks", 2017. The words are Ray Tune's.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.distributions import FloatDistribution, IntDistribution

from dlsweep.errors import ConfigError, did_you_mean
from dlsweep.sweep.space import Dimension, Scalar, SearchSpace

#: The smallest population: one trial to copy, and one that copies it.
SMALLEST = 2
_PRUNER = "hydra.sweeper.pruner"


@dataclass
class PopulationBasedTraining:
    """The rules of population based training.

    Args:
        perturbation_interval: The steps after which a trial is ranked.
        max_resource: The last step of a training.
        quantile_fraction: The share of the population at the bottom that copies, and that at the
            top that is copied.
        resample_probability: How probable it is that a hyperparameter is drawn anew.
        perturbation_factors: The factors of a number otherwise, of which one is drawn.
        perturb: The keys that change; None for every one that a training can take up.
        maximize: Whether a higher value is better.

    Raises:
        ConfigError: If one is out of its range.
    """

    perturbation_interval: int
    max_resource: int
    quantile_fraction: float = 0.25
    resample_probability: float = 0.25
    perturbation_factors: Sequence[float] = (1.2, 0.8)
    perturb: Sequence[str] | None = None
    maximize: bool = False

    def __post_init__(self) -> None:
        interval, last = self.perturbation_interval, self.max_resource
        if not _is_whole(interval) or not _is_whole(last) or not 0 < interval < last:
            raise ConfigError(
                f"{_PRUNER}.perturbation_interval: Received {interval!r} for trainings of {last!r} "
                "steps. Expected a whole number of steps from 1 that is less than these.\n"
                f"Type, for instance,  {_PRUNER}.perturbation_interval=1  training.epochs=10"
            )
        if not _is_number(self.quantile_fraction) or not 0 < self.quantile_fraction <= 0.5:
            raise ConfigError(
                f"{_PRUNER}.quantile_fraction: Received {self.quantile_fraction!r}. "
                "Expected a share above 0 and up to 0.5."
            )
        if not _is_number(self.resample_probability) or not 0 <= self.resample_probability <= 1:
            raise ConfigError(
                f"{_PRUNER}.resample_probability: Received {self.resample_probability!r}. "
                "Expected a probability from 0 to 1."
            )
        factors = self.perturbation_factors
        are_factors = isinstance(factors, Sequence) and not isinstance(factors, str) and factors
        if not are_factors or not all(_is_number(one) and 0 < one < math.inf for one in factors):
            raise ConfigError(
                f"{_PRUNER}.perturbation_factors: Received {factors!r}. "
                "Expected numbers above 0, such as [1.2,0.8]."
            )

    def is_boundary(self, before: int, step: int, base: int) -> bool:
        """Whether an interval has ended between two steps, and the training has not.

        Args:
            before: The step before.
            step: The latest step.
            base: The step that the trial's weights were copied at; 0 if they are its own.
        """
        interval = self.perturbation_interval
        has_ended = (step - base) // interval > (max(before, base) - base) // interval
        return has_ended and step < self.max_resource

    def quantiles(self, values: Mapping[int, float]) -> tuple[list[int], list[int]]:
        """Returns the trials at the bottom and those at the top, best last.

        Args:
            values: The latest value of each trial.
        """
        sign = 1 if self.maximize else -1
        ranked = sorted(values, key=lambda number: (sign * values[number], -number))
        count = min(math.ceil(len(ranked) * self.quantile_fraction), len(ranked) // 2)
        return ranked[:count], ranked[len(ranked) - count :]

    def keys(self, space: SearchSpace) -> list[str]:
        """Returns the keys that may change: the given ones, or every swept value.

        Raises:
            ConfigError: If a given one is not swept, or is a config group.
        """
        values = [one.key for one in space.dimensions if not space.composer.is_group(one.key)]
        for key in self.perturb or ():
            if key in values:
                continue
            is_swept = any(one.key == key for one in space.dimensions)
            what = "a config group: its options have weights or an optimizer of their own"
            hint = "" if is_swept else did_you_mean(key, values)
            raise ConfigError(
                f"{_PRUNER}.perturb: Received {key}, which is {what if is_swept else 'not swept'}."
                f"{hint}\nExpected some of: {', '.join(values) or 'no key is swept as a value'}"
            )
        if not values:
            raise ConfigError(
                f"{_PRUNER}: No key is swept that population based training could change.\n"
                "Sweep one:  'training.optimizer.lr=tag(log,interval(1e-4,1e-1))'"
            )
        return values if self.perturb is None else list(self.perturb)

    def explore(self, dimension: Dimension, value: Scalar, dice: random.Random) -> Scalar:
        """Returns a new value of a hyperparameter: drawn anew, or beside the donor's.

        Args:
            dimension: The swept key.
            value: The donor's value.
            dice: Draws.
        """
        if dice.random() < self.resample_probability:
            return _drawn(dimension, dice)
        if dimension.options:
            return _neighbour(list(dimension.options), value, dice)
        assert isinstance(value, int | float)
        return _scaled(dimension, value, dice.choice(self.perturbation_factors))


def check_population(pruner: Mapping[str, Any], n_trials: int | None, grid: bool) -> None:
    """Checks what population based training needs of a sweep.

    Raises:
        ConfigError: If the sweep has no population, or runs every point once.
    """
    if pruner.get("_target_") != f"{__name__}.{PopulationBasedTraining.__name__}":
        return
    if grid or n_trials is None or n_trials < SMALLEST:
        received = "a sweep that runs every point once" if grid else f"n_trials={n_trials}"
        raise ConfigError(
            f"hydra/sweeper/pruner=pbt: Received {received}. The trials are the population: "
            f"expected hydra.sweeper.n_trials from {SMALLEST}.\n"
            "Type, for instance,  hydra.sweeper.n_trials=8"
        )


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _drawn(dimension: Dimension, dice: random.Random) -> Scalar:
    if dimension.options:
        return dice.choice(list(dimension.options))
    if dimension.grid:
        return dimension.grid[dice.randrange(dimension.grid.count)]
    d = dimension.distribution
    assert isinstance(d, IntDistribution | FloatDistribution)
    if not d.log:
        share = dice.uniform(d.low, d.high)
    else:
        share = math.exp(dice.uniform(math.log(d.low), math.log(d.high)))
    return _within(d, share)


def _neighbour(options: list[Scalar], value: Scalar, dice: random.Random) -> Scalar:
    place = options.index(value)
    near = [options[at] for at in (place - 1, place + 1) if 0 <= at < len(options)]
    return dice.choice(near) if near else value


def _scaled(dimension: Dimension, value: float, factor: float) -> Scalar:
    """Multiplies a number; one of a range moves by at least one of its steps."""
    if dimension.grid:
        steps = dimension.grid
        moved = steps.nearest(value * factor)
        if moved == value and value and factor != 1:
            turn = math.copysign(abs(float(steps.step)), (factor - 1) * value)
            moved = steps.nearest(value + turn)
        return moved
    d = dimension.distribution
    assert isinstance(d, IntDistribution | FloatDistribution)
    moved = _within(d, value * factor)
    if isinstance(d, IntDistribution) and moved == value and factor != 1:
        moved = _within(d, value + math.copysign(d.step, (factor - 1) * (value or 1)))
    return moved


def _within(d: IntDistribution | FloatDistribution, value: float) -> float:
    inside = min(max(value, d.low), d.high)
    return round(inside) if isinstance(d, IntDistribution) else float(inside)
