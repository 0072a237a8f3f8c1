"""Starts a sampler warm: with the trials of earlier studies that lie in today's space."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any, cast

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import (
    BaseSampler,
    CmaEsSampler,
    GPSampler,
    NSGAIIISampler,
    NSGAIISampler,
    TPESampler,
)
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from dlsweep.errors import ConfigError, SpaceError
from dlsweep.security.printable import printable
from dlsweep.sweep.earlier import EarlierStudy, EarlierTrial
from dlsweep.sweep.parts import build
from dlsweep.sweep.seen import SeenStudy, WarmSampler
from dlsweep.sweep.space import Dimension, Scalar, SearchSpace

_KEY = "hydra.sweeper.warm_start"
_EXPECTED = "Expected hydra/sweeper/sampler=tpe, gp, cmaes, nsgaii or nsgaiii."
#: CMA-ES starts from the best tenth of them.
_FEWEST_OF_CMAES = 10
_GENETIC = (NSGAIISampler, NSGAIIISampler)


class WarmStart:
    """The trials of earlier studies, in the terms of today's space.

    Args:
        studies: The earlier studies.
        space: Today's space.

    Attributes:
        notes: Sentences about which keys match, and which trials are left out and why.

    Raises:
        SpaceError: If a study has no key of the space, or no completed trial within it.
    """

    def __init__(self, studies: Sequence[EarlierStudy], space: SearchSpace) -> None:
        self.notes: list[str] = []
        self._space = space
        self._seen: SeenStudy | None = None  # both are made once: a trial has its own sampler
        self._sources: list[FrozenTrial] | None = None
        self._points: list[tuple[EarlierTrial, dict[str, Scalar]]] = []
        for study in studies:
            self._points += self._matched(study)

    @property
    def count(self) -> int:
        """The number of earlier trials."""
        return len(self._points)

    def build(self, config: dict[str, Any], name: str, storage: BaseStorage) -> BaseSampler:
        """Builds a sampler that learns from the earlier trials.

        Args:
            config: The sampler's config.
            name: The name of the study that it samples for.
            storage: The storage of that study.

        Raises:
            ConfigError: If this sampler cannot learn from trials of another study.
            SpaceError: If no trial has the keys that it needs.
        """
        sampler: BaseSampler = build("sampler", config)
        if isinstance(sampler, CmaEsSampler):
            if self._sources is None:
                self._sources = self._numeric()
            cmaes: BaseSampler = build("sampler", {**config, "source_trials": self._sources})
            return cmaes
        if not isinstance(sampler, (TPESampler, GPSampler, *_GENETIC)):
            raise ConfigError(
                f"{_KEY}: {type(sampler).__name__} cannot start from trials of other studies.\n"
                f"{_EXPECTED}"
            )
        if self._seen is None:
            self._seen = SeenStudy(name, storage, self._seen_by(sampler))
        return WarmSampler(sampler, self._seen)

    def _seen_by(self, sampler: BaseSampler) -> list[FrozenTrial]:
        points, attrs = self._points, {}
        if not isinstance(sampler, TPESampler):
            points = self._whole(type(sampler).__name__)
        if isinstance(sampler, _GENETIC):  # they are the population that its first parents are of
            attrs = {type(sampler)._get_generation_key(): 0}
        return [self._trial(number, *one, attrs) for number, one in enumerate(points)]

    def _matched(self, study: EarlierStudy) -> list[tuple[EarlierTrial, dict[str, Scalar]]]:
        """Returns a study's trials within today's space, with their values of its keys."""
        keys = [one.key for one in self._space.dimensions]
        theirs = {key for trial in study.trials for key in trial.params}
        if not theirs.intersection(keys):
            found = ", ".join(sorted(map(printable, theirs))) or "nothing"
            raise SpaceError(
                f"{_KEY}: {study.folder} has no key of this study. It sweeps {found}; this study "
                f"sweeps {', '.join(keys)}."
            )
        points, outside = [], []
        for trial in study.trials:
            shared = [one for one in self._space.dimensions if one.key in trial.params]
            odd = [one for one in shared if not _matching(one, trial.params[one.key])]
            if odd:
                value = printable(str(trial.params[odd[0].key]))
                outside.append(f"{odd[0].key}={value} is outside of {odd[0].text}.")
            elif shared:
                point = {one.key: _matching(one, trial.params[one.key])[0] for one in shared}
                points.append((trial, point))
            else:
                outside.append("a trial has none of the keys.")
        if not any(trial.values for trial, _ in points):
            raise SpaceError(
                f"{_KEY}: {study.folder} has no completed trial within this study's space.\n"
                f"For example, {outside[0]}"
            )
        self._note(study, points, outside, theirs)
        return points

    def _note(
        self,
        study: EarlierStudy,
        points: Sequence[tuple[EarlierTrial, dict[str, Scalar]]],
        outside: Sequence[str],
        theirs: set[str],
    ) -> None:
        keys = [one.key for one in self._space.dimensions]
        kinds = Counter(_kind(trial) for trial, _ in points)
        counts = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
        common = ", ".join(key for key in keys if key in theirs)
        self.notes.append(
            f"Warm start from {study.folder}: {len(points)} trial{'s' * (len(points) != 1)} "
            f"({counts}); the keys {common} match."
        )
        if new := ", ".join(key for key in keys if key not in theirs):
            self.notes.append(f"  New in this study: {new}.")
        if outside:
            self.notes.append(f"  Left out: {len(outside)}; for example, {outside[0]}")
        if study.failed:
            self.notes.append(f"  Left out: {study.failed} that failed, as samplers skip those.")

    def _whole(self, sampler: str) -> list[tuple[EarlierTrial, dict[str, Scalar]]]:
        """Returns the trials that have every key that is active under their choices."""
        whole = [one for one in self._points if not self._space.missing(one[1])]
        if not any(trial.values for trial, _ in whole):
            absent = self._space.missing(self._points[0][1])
            raise SpaceError(
                f"{_KEY}: {sampler} needs trials that have every key of this study. Those of the "
                f"earlier studies lack {', '.join(absent)}.\n"
                "Type  hydra/sweeper/sampler=tpe  which takes the keys that they have."
            )
        left = len(self._points) - len(whole)
        sentence = f"  Left out: {left} without every key, which {sampler} needs."
        if left and sentence not in self.notes:
            self.notes.append(sentence)
        return whole

    def _numeric(self) -> list[FrozenTrial]:
        """Returns the completed trials with their numbers only, as CMA-ES takes them."""
        if conditional := self._space.active_under():
            raise SpaceError(
                f"{_KEY}: CmaEsSampler starts warm only if every key exists in each trial, and "
                f"{next(iter(conditional))} does not.\nType  hydra/sweeper/sampler=tpe"
            )
        numeric = {
            one.key
            for one in self._space.dimensions
            if not (isinstance(one.distribution, CategoricalDistribution) or one.count == 1)
        }
        points = [
            (trial, {key: value for key, value in point.items() if key in numeric})
            for trial, point in self._points
            if trial.values and numeric <= point.keys()
        ]
        if not numeric or len(points) < _FEWEST_OF_CMAES:
            raise SpaceError(
                f"{_KEY}: CmaEsSampler needs {_FEWEST_OF_CMAES} completed trials that have every "
                f"numeric key of this study ({', '.join(sorted(numeric)) or 'it has none'}). "
                f"There are {len(points)}.\nType  hydra/sweeper/sampler=tpe"
            )
        return [self._trial(number, *one, {}) for number, one in enumerate(points)]

    def _trial(
        self, number: int, trial: EarlierTrial, point: dict[str, Scalar], attrs: dict[str, Any]
    ) -> FrozenTrial:
        distributions: dict[str, BaseDistribution] = {
            one.key: one.distribution for one in self._space.dimensions if one.key in point
        }
        steps = {int(trial.last[0]): float(trial.last[1])} if trial.last else {}
        frozen = FrozenTrial(
            number=number,
            state=TrialState.COMPLETE if trial.values else TrialState.PRUNED,
            value=None,
            values=trial.values,
            datetime_start=None,
            datetime_complete=None,
            params=dict(point),
            distributions=distributions,
            user_attrs={},
            system_attrs=dict(attrs),
            intermediate_values=steps,
            trial_id=-1 - number,  # no trial in a storage has a negative one
        )
        if trial.infeasible:
            frozen.set_constraint("infeasible", 1.0)
        return frozen


def _matching(dimension: Dimension, value: object) -> list[Scalar]:
    """Returns the one value of a dimension that equals a value of another study, if there is."""
    if dimension.options:
        is_truth = isinstance(value, bool)
        return [
            one for one in dimension.options if one == value and isinstance(one, bool) == is_truth
        ]
    if isinstance(value, bool) or not isinstance(value, int | float):
        return []
    d = cast(FloatDistribution | IntDistribution, dimension.distribution)
    if not d.low <= value <= d.high or (isinstance(d, IntDistribution) and value % 1):
        return []
    number = int(value) if isinstance(d, IntDistribution) else float(value)
    nearest = dimension.snap(number)
    return [nearest] if math.isclose(nearest, value) else []


def _kind(trial: EarlierTrial) -> str:
    return "infeasible" if trial.infeasible else "completed" if trial.values else "pruned"
