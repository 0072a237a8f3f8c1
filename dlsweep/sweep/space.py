"""The search space: Hydra's sweep overrides as Optuna's distributions, and back.

``lr=tag(log,interval(1e-4,1e-1))`` becomes a FloatDistribution, and a suggested value becomes
``lr=0.003`` again. Group choices are suggested first. A key is active if it exists in the config
that these choices compose.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import optuna
from hydra.core.override_parser.types import (
    Glob,
    IntervalSweep,
    Override,
    QuotedString,
    RangeSweep,
)
from omegaconf import DictConfig
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
)

from dlsweep.errors import SpaceError, did_you_mean
from dlsweep.sweep.compose import Composer, key_of
from dlsweep.sweep.steps import Steps

Scalar = str | int | float | bool | None


@dataclass(frozen=True)
class Dimension:
    """A swept key.

    Attributes:
        key: The config key or group, as in an override.
        distribution: Optuna's distribution.
        text: The sweep override as the user wrote it.
        prefix: ``+`` or ``++`` where the override adds the key.
        options: For choices, the override text of each value, in Hydra's order.
        grid: For a range, its values in Hydra's order. A sample is rounded to the nearest value.
        when: Values of other dimensions under which this one exists.
    """

    key: str
    distribution: BaseDistribution
    text: str
    prefix: str = ""
    options: dict[Scalar, str] = field(default_factory=dict)
    grid: Steps | None = None
    when: dict[str, list[Scalar]] = field(default_factory=dict)

    def suggest(self, trial: optuna.Trial) -> Scalar:
        """Suggests a value."""
        d = self.distribution
        if isinstance(d, CategoricalDistribution):
            return trial.suggest_categorical(self.key, d.choices)
        if isinstance(d, IntDistribution):
            sample: float = trial.suggest_int(self.key, d.low, d.high, step=d.step, log=d.log)
        else:
            d = cast(FloatDistribution, d)
            sample = trial.suggest_float(self.key, d.low, d.high, step=d.step, log=d.log)
        return self.snap(sample)

    def snap(self, sample: float) -> float:
        """Rounds a numeric sample to the nearest value of the range."""
        return self.grid.nearest(sample) if self.grid else sample

    def override(self, value: Scalar) -> str:
        """Returns the override that sets the value."""
        text = self.options.get(value)
        return f"{self.prefix}{self.key}={repr(value) if text is None else text}"

    def ends(self) -> list[Scalar]:
        """The values to check the config with: both ends, or every choice."""
        if isinstance(self.distribution, CategoricalDistribution):
            return list(self.distribution.choices)
        numeric = cast(FloatDistribution | IntDistribution, self.distribution)
        return [self.snap(numeric.low), self.snap(numeric.high)]

    @property
    def count(self) -> int | None:
        """The number of values, or None if there are infinitely many."""
        if self.options:
            return len(self.options)
        if self.grid:
            return self.grid.count
        d = self.distribution
        return (d.high - d.low) // d.step + 1 if isinstance(d, IntDistribution) else None

    def values(self) -> Iterator[Scalar]:
        """Yields all values in Hydra's order; none if there are infinitely many."""
        if self.options:
            yield from self.options
        elif self.grid:
            yield from self.grid
        elif isinstance(self.distribution, IntDistribution):
            d = self.distribution
            yield from range(d.low, d.high + 1, d.step)


class SearchSpace:
    """The swept keys of a study.

    Attributes:
        dimensions: Groups first, then values; those with a ``when`` last.
        composer: Composes the app's configs with the study's fixed overrides.

    Raises:
        SpaceError: If a swept key exists under no combination of choices.
    """

    def __init__(self, dimensions: list[Dimension], composer: Composer) -> None:
        self.composer = composer
        self._given = dimensions
        self._groups = [one for one in dimensions if composer.is_group(one.key)]
        values = [one for one in dimensions if not composer.is_group(one.key)]
        self.dimensions = self._groups + sorted(values, key=lambda one: bool(one.when))
        self._check_keys()

    def unswept(self) -> DictConfig:
        """Composes the config without the swept values; mandatory groups have their first choice.

        Raises:
            hydra.errors.ConfigCompositionException: If Hydra cannot compose it.
        """
        needed = [
            one.override(next(iter(one.options)))
            for one in self._groups
            if not (one.prefix or self.composer.has_choice(one.key))
        ]
        return self.composer.config(needed)

    def record(self) -> dict[str, Any]:
        """Returns the distribution of each key as Optuna's JSON."""
        return {
            one.key: json.loads(distribution_to_json(one.distribution)) for one in self.dimensions
        }

    def suggest(self, trial: optuna.Trial) -> dict[str, Scalar]:
        """Suggests a value for every dimension that is active in the trial."""
        params: dict[str, Scalar] = {}
        for dimension in self.dimensions:
            if self._is_active(dimension, params):
                params[dimension.key] = dimension.suggest(trial)
        return params

    def missing(self, params: Mapping[str, Scalar]) -> list[str]:
        """Returns the keys that a point lacks: groups, or keys that are active under its groups."""
        groups = [one.key for one in self._groups if one.key not in params]
        return groups or [
            one.key
            for one in self.dimensions
            if one.key not in params and self._is_active(one, params)
        ]

    def overrides(self, params: Mapping[str, Scalar]) -> list[str]:
        """Returns the overrides that set these values; groups first."""
        return [one.override(params[one.key]) for one in self.dimensions if one.key in params]

    def points(self) -> Iterator[dict[str, Scalar]]:
        """Yields every point of a finite space once, in Hydra's order: the last key is fastest."""
        seen: set[tuple[tuple[str, Scalar], ...]] = set()
        is_conditional = bool(self.active_under())
        for point in _combinations(self._given):
            if not is_conditional:
                yield {one.key: point[one.key] for one in self.dimensions}
                continue
            params: dict[str, Scalar] = {}
            for dimension in self.dimensions:
                if self._is_active(dimension, params):
                    params[dimension.key] = point[dimension.key]
            if (items := tuple(params.items())) not in seen:
                seen.add(items)
                yield params

    @property
    def is_finite(self) -> bool:
        """Whether the number of points is finite."""
        return all(one.count is not None for one in self.dimensions)

    def count(self, most: int | None = None) -> int:
        """Counts the points of a finite space; with ``most``, no further than that."""
        if not self.active_under():
            total = math.prod(one.count or 0 for one in self.dimensions)
            return total if most is None else min(total, most)
        return sum(1 for _ in itertools.islice(self.points(), most))

    def probes(self) -> Iterator[dict[str, Scalar]]:
        """Yields points that cover both ends of every dimension under every group choice."""
        for choice in self._choices():
            active: dict[str, Scalar] = dict(choice)
            ends: dict[str, list[Scalar]] = {}
            for one in self.dimensions[len(self._groups) :]:
                if self._is_active(one, active) or one.when:
                    ends[one.key] = one.ends()
            for turn in range(max((len(values) for values in ends.values()), default=1)):
                yield active | {key: values[turn % len(values)] for key, values in ends.items()}

    def variants(self, key: str) -> Iterator[list[dict[str, Scalar]]]:
        """Yields, for each group choice under which a key exists, points that differ in it alone.

        They have both ends of its range, or all its choices.
        """
        for point in self.probes():
            if key in point:
                one = next(one for one in self.dimensions if one.key == key)
                yield [{**point, key: value} for value in one.ends()]

    def active_under(self) -> dict[str, list[str]]:
        """Returns the group choices under which each conditional dimension exists."""
        choices = list(self._choices())
        table = {}
        for one in self.dimensions[len(self._groups) :]:
            under = [c for c in choices if self._exists(one, c)]
            if len(under) < len(choices):
                table[one.key] = sorted({" ".join(self.overrides(c)) for c in under})
            if one.when:
                table[one.key] = [f"{k}={'|'.join(map(str, v))}" for k, v in one.when.items()]
        return table

    def _choices(self) -> Iterator[dict[str, Scalar]]:
        for values in itertools.product(*(one.options for one in self._groups)):
            yield {one.key: v for one, v in zip(self._groups, values, strict=True)}

    def _exists(self, dimension: Dimension, params: Mapping[str, Scalar]) -> bool:
        if dimension in self._groups or dimension.prefix:
            return True
        choices = [one.override(params[one.key]) for one in self._groups]
        return self.composer.has_key(choices, dimension.key)

    def _is_active(self, dimension: Dimension, params: Mapping[str, Scalar]) -> bool:
        met = all(params.get(key) in values for key, values in dimension.when.items())
        return met and self._exists(dimension, params)

    def _check_keys(self) -> None:
        keys = [one.key for one in self.dimensions]
        swept = set(keys)
        choices = list(self._choices())
        for one in self.dimensions:
            if "@" in one.key and one not in self._groups:
                raise SpaceError(
                    f"{one.key}: There is no config group {one.key.partition('@')[0]!r}, so the "
                    "key takes no package.\nExpected a group, or a key without @."
                )
            if one in self._groups and None in one.options:
                raise SpaceError(
                    f"{one.key}: Received null among the options of a config group.\n"
                    f"Expected its options, such as none. Type  {one.key}=none,…"
                )
            if keys.count(one.key) > 1:
                raise SpaceError(f"{one.key} is swept twice. Expected one space for each key.")
            for key in one.when:
                if key not in swept:
                    raise SpaceError(
                        f"{one.key}: its `when` names {key!r}, which is not swept."
                        f"{did_you_mean(key, swept)}"
                    )
            if not any(self._exists(one, choice) for choice in choices):
                texts = self.overrides(choices[0])
                hint = did_you_mean(one.key, self.composer.keys(texts))
                raise SpaceError(
                    f"The swept key {one.key!r} does not exist in any config of this sweep.{hint}\n"
                    f"To add a new key, write  +{one.key}={one.text}"
                )


def dimension_of(override: Override, when: dict[str, list[Scalar]] | None = None) -> Dimension:
    """Makes a dimension from one sweep override.

    Args:
        override: Parsed by Hydra: a choice, a range or an interval.
        when: Values of other dimensions under which this one exists.

    Raises:
        SpaceError: If it is empty or inverted, or has an unknown tag.
    """
    key = key_of(override)
    prefix = "+" if override.is_add() else "++" if override.is_force_add() else ""
    text = (override.input_line or "").partition("=")[2]
    sweep = override.value()
    if override.is_delete():
        raise SpaceError(f"~{key}: Received {text}. A deletion cannot be swept: expected ~{key}.")
    if getattr(sweep, "shuffle", False):
        raise SpaceError(
            f"{key}: Received {text}. A shuffled space differs in every call, so that the sweep "
            "could not go on.\nLeave out shuffle; for a random order type  "
            "hydra/sweeper/sampler=random"
        )
    log = _is_log(key, getattr(sweep, "tags", set()))
    if override.is_choice_sweep():
        if log:
            raise SpaceError(f"{key}: the tag log needs numbers in order. Received {text}.")
        options = _options(key, override)
        distribution: BaseDistribution = CategoricalDistribution(list(options))
        return Dimension(key, distribution, text, prefix, options, when=when or {})
    if isinstance(sweep, RangeSweep):
        steps = _steps(key, sweep, text)
        distribution = _range_distribution(key, steps, abs(sweep.step), log, text)
        return Dimension(key, distribution, text, prefix, grid=steps, when=when or {})
    assert isinstance(sweep, IntervalSweep)
    return Dimension(key, _interval(key, sweep, log, text), text, prefix, when=when or {})


def _is_log(key: str, tags: set[str]) -> bool:
    if unknown := sorted(tags - {"log"}):
        raise SpaceError(f"{key}: Received the tag {unknown[0]!r}. Expected: log.")
    return "log" in tags


def _options(key: str, override: Override) -> dict[Scalar, str]:
    options: dict[Scalar, str] = {}
    elements: list[Any] = list(override.sweep_iterator())
    for element in elements:
        text = Override._get_value_element_as_str(element)
        plain = element.text if isinstance(element, QuotedString) else element
        value = plain if plain is None or isinstance(plain, str | int | float | bool) else text
        if options.get(value, text) != text:
            raise SpaceError(
                f"{key}: The choices {options[value]} and {text} are equal in Python, so Optuna "
                f"cannot tell them apart.\nExpected distinct values. Quote one, as in  '{text}'"
            )
        if value in options:
            raise SpaceError(f"{key}: {text} is twice among its choices.")
        options[value] = text
    if not options:
        found = override.value()
        what = f"the pattern {found.include}" if isinstance(found, Glob) else "the choice"
        raise SpaceError(f"{key}: {what} is empty. Expected at least one value.")
    return options


def _steps(key: str, sweep: RangeSweep, text: str) -> Steps:
    if sweep.step == 0:
        raise SpaceError(f"{key}: Received {text}. Expected a step other than 0.")
    if not all(math.isfinite(bound) for bound in (sweep.start or 0, sweep.stop or 0, sweep.step)):
        raise SpaceError(f"{key}: Received {text}. Expected finite numbers.")
    steps = Steps.of(sweep)
    if not steps.count:
        raise SpaceError(
            f"{key}: {text} is empty. Expected range(start, stop, step) with start before stop; "
            "stop itself is left out, as in Python."
        )
    if isinstance(steps[0], str | bool):
        raise SpaceError(f"{key}: Received {text}. Expected numbers; for others, list the choices.")
    return steps


def _combinations(dimensions: Sequence[Dimension]) -> Iterator[dict[str, Scalar]]:
    """Yields every combination of values, the last key fastest; ``product`` would store them."""
    if not dimensions:
        yield {}
        return
    first, *others = dimensions
    for value in first.values():
        for rest in _combinations(others):
            yield {first.key: value, **rest}


def _range_distribution(
    key: str, steps: Steps, step: float, log: bool, text: str
) -> BaseDistribution:
    low, high = sorted((steps[0], steps[steps.count - 1]))
    if log and low <= 0:
        raise SpaceError(f"{key}: Received {text}. Expected a range above 0 under the tag log.")
    if isinstance(low, int) and isinstance(high, int):
        return IntDistribution(low, high, log=log, step=1 if log else int(step))
    return FloatDistribution(low, high, log=log, step=None if log else step)


def _interval(key: str, sweep: IntervalSweep, log: bool, text: str) -> BaseDistribution:
    low, high = sweep.start, sweep.end
    assert low is not None
    assert high is not None
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise SpaceError(
            f"{key}: Received {text}. Expected interval(low, high) with low below high."
        )
    if log and low <= 0:
        raise SpaceError(f"{key}: Received {text}. Expected an interval above 0 under the tag log.")
    if isinstance(low, int) and isinstance(high, int):
        return IntDistribution(low, high, log=log)
    return FloatDistribution(low, high, log=log)
