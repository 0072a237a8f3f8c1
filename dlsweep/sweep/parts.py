"""Builds a study's sampler and pruner from their configs."""

from __future__ import annotations

import importlib
import math
import warnings
from typing import Any

import optuna

from dlsweep.errors import ConfigError
from dlsweep.sweep.quick_pruners import QUICK
from dlsweep.sweep.seen import WarmSampler
from dlsweep.sweep.space import Scalar, SearchSpace

#: The most points of a GridSampler.
_LARGEST_GRID = 1_000_000


def grid(space: SearchSpace) -> dict[str, list[Scalar]]:
    """Returns the values of each key, as the grid sampler takes them.

    Raises:
        ConfigError: If there are infinitely many points, or too many.
    """
    counts = {one.key: one.count for one in space.dimensions}
    for key, count in counts.items():
        if count is None:
            raise ConfigError(
                f"The grid sampler needs a finite number of values, and {key} is an interval."
                "\nGive it a range or a choice, or another sampler: hydra/sweeper/sampler=tpe"
            )
    if (total := math.prod(count or 0 for count in counts.values())) > _LARGEST_GRID:
        raise ConfigError(
            f"The grid sampler holds every point in memory, and there are {total}.\n"
            f"Expected at most {_LARGEST_GRID}. Leave the sampler out for a grid in order, or "
            "type  hydra/sweeper/sampler=random"
        )
    return {one.key: list(one.values()) for one in space.dimensions}


def with_search_space_of(
    sampler: optuna.samplers.BaseSampler, earlier: optuna.samplers.BaseSampler
) -> optuna.samplers.BaseSampler:
    """Copies an earlier sampler's intersection search space, which is slow to compute anew."""
    if isinstance(sampler, WarmSampler) and isinstance(earlier, WarmSampler):
        with_search_space_of(sampler.sampler, earlier.sampler)
    for name, known in vars(earlier).items():
        if isinstance(known, optuna.search_space.IntersectionSearchSpace):
            setattr(sampler, name, known)
    return sampler


def build(role: str, config: dict[str, Any]) -> Any:
    """Builds a sampler or a pruner from its config.

    Raises:
        ConfigError: If the target or its arguments do not fit.
    """
    options = {key: value for key, value in config.items() if key != "_target_"}
    module, _, name = config["_target_"].rpartition(".")
    try:
        target = getattr(importlib.import_module(module), name)
        options = {
            key: build(role, value) if isinstance(value, dict) and "_target_" in value else value
            for key, value in options.items()
        }
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return QUICK.get(target, target)(**options)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise ConfigError(
            f"hydra.sweeper.{role}: {config['_target_']} cannot be built: {error}\n"
            f"Its arguments are keys:  hydra.sweeper.{role}.<name>=<value>"
        ) from None
