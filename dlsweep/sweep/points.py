"""Points of a search space that a user gives: read from overrides, and checked."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import OverrideParseException
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    json_to_distribution,
)
from optuna.trial import create_trial

from dlsweep.errors import ConfigError, StudyError, did_you_mean
from dlsweep.sweep.compose import key_of
from dlsweep.sweep.space import Scalar


def read_point(texts: Sequence[str], space: Mapping[str, Any]) -> dict[str, Scalar]:
    """Reads a point from overrides such as ``training.optimizer.lr=0.01``.

    Args:
        texts: The overrides; keys that are left out are the sampler's.
        space: The search space, as ``study.json`` has it.

    Raises:
        ConfigError: If one is not in the space.
        StudyError: If the space is damaged.
    """
    try:
        spaces = {key: json_to_distribution(json.dumps(text)) for key, text in space.items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise StudyError(f"The space in study.json is damaged: {error!r}") from None
    point: dict[str, Scalar] = {}
    for text in texts:
        try:
            (override,) = OverridesParser.create().parse_overrides([text])
        except OverrideParseException as error:
            raise ConfigError(f"{text}: {error}\nExpected key=value") from None
        if override.is_sweep_override() or override.is_delete():
            raise ConfigError(f"{text}: Received no single value. Expected key=value")
        key, value = key_of(override), override.value()
        if key in point:
            raise ConfigError(f"{key} is given twice. Expected one value.")
        if value is None or isinstance(value, str | int | float | bool):
            point[key] = value
        else:  # a choice of lists has their texts
            point[key] = override.get_value_element_as_str()
    check_point(point, spaces, "enqueue")
    return point


def check_point(
    point: Mapping[str, Scalar],
    spaces: Mapping[str, BaseDistribution],
    where: str,
    texts: Mapping[str, str] | None = None,
) -> None:
    """Checks that each value of a point is in the search space.

    Args:
        point: Values of some or all keys.
        spaces: The distribution of each key.
        where: Who gives the point.
        texts: Each space as the user wrote it.

    Raises:
        ConfigError: If one is not.
    """
    for key, value in point.items():
        if key not in spaces:
            hint = did_you_mean(key, spaces) or f" Expected {', '.join(spaces) or 'no key at all'}."
            raise ConfigError(f"{where}: {key!r} is not swept.{hint}")
        try:  # Optuna checks that a distribution contains the value
            create_trial(value=0.0, params={key: value}, distributions={key: spaces[key]})
        except ValueError:
            space = texts[key] if texts else _in_words(spaces[key])
            raise ConfigError(f"{where}: {key}={value} is outside of its space, {space}.") from None


def _in_words(space: BaseDistribution) -> str:
    if isinstance(space, CategoricalDistribution):
        return ", ".join(map(str, space.choices))
    assert isinstance(space, IntDistribution | FloatDistribution)
    step = f" in steps of {space.step:g}" if space.step not in (None, 1) else ""
    kind = "whole numbers from " if isinstance(space, IntDistribution) else ""
    return f"{kind}{space.low:g} to {space.high:g}{step}"
