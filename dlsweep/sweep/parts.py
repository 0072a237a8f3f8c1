"""Builds a study's sampler and pruner from their configs."""

from __future__ import annotations

import importlib
import warnings
from typing import Any

import optuna

from dlsweep.errors import ConfigError


def with_search_space_of(
    sampler: optuna.samplers.BaseSampler, earlier: optuna.samplers.BaseSampler
) -> optuna.samplers.BaseSampler:
    """Copies an earlier sampler's intersection search space, which is slow to compute anew."""
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
            return target(**options)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise ConfigError(
            f"hydra.sweeper.{role}: {config['_target_']} cannot be built: {error}\n"
            f"Its arguments are keys:  hydra.sweeper.{role}.<name>=<value>"
        ) from None
