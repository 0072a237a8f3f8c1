"""Optuna's pruners, for studies of 100,000 trials.

Optuna's pruners read every trial of a study for each verdict, which takes 40 ms at 100,000 trials.
A verdict depends on few numbers: on a percentile, or on the last value that is promoted, and on
whether there are enough trials at all. These pruners keep such numbers and give Optuna's own code a
study of a few stand-ins that have the same ones, so every verdict is Optuna's.
"""

from __future__ import annotations

import bisect
import math
from collections import defaultdict
from collections.abc import Container, Iterable, Sequence
from typing import Any

import optuna
from optuna.pruners import (
    BasePruner,
    HyperbandPruner,
    MedianPruner,
    PercentilePruner,
    SuccessiveHalvingPruner,
)
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from dlsweep.sweep.seen import Curves, SeenStorage

#: The start of the trial attributes in which Optuna stores the values of a rung.
_RUNG = "completed_rung_"


class StandIns(optuna.Study):
    """A study as a pruner sees it: a few trials instead of all.

    What the pruner stores goes to the study itself.
    """

    shown: Sequence[FrozenTrial] = ()

    def get_trials(
        self,
        deepcopy: bool = True,  # noqa: ARG002 - Optuna's signature
        states: Container[TrialState] | None = None,  # noqa: ARG002
    ) -> list[FrozenTrial]:
        """Returns the stand-ins."""
        return list(self.shown)


def _seen_storage(study: optuna.Study) -> SeenStorage:
    storage = study._storage
    assert isinstance(storage, SeenStorage)
    return storage


def _shown(known: StandIns | None, study: optuna.Study, shown: Sequence[FrozenTrial]) -> StandIns:
    known = known or StandIns(study.study_name, _seen_storage(study))
    known.shown = shown
    return known


def _stand_in(values: dict[int, float], attrs: dict[str, Any]) -> FrozenTrial:
    return create_trial(value=0.0, intermediate_values=values, system_attrs=attrs)


class QuickPercentile(PercentilePruner):
    """Optuna's percentile pruner.

    Its verdict depends on how many completed trials there are and how many of them have a value at
    the step, both up to a limit, and on the percentile of these values.
    """

    _stand_ins: StandIns | None = None

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Returns Optuna's verdict."""
        curves, step = _seen_storage(study).curves, trial.last_step
        if step is None:
            return False
        is_maximized = study.direction is StudyDirection.MAXIMIZE
        percentile = 100 - self._percentile if is_maximized else self._percentile
        value = curves.percentile(step, percentile)
        if math.isinf(value):  # NumPy's percentile of equal infinities is NaN
            return super().prune(study, trial)
        shown = self._equivalent(curves, step, value)
        self._stand_ins = _shown(self._stand_ins, study, shown)
        return super().prune(self._stand_ins, trial)

    def _equivalent(self, curves: Curves, step: int, value: float) -> list[FrozenTrial]:
        with_value = min(curves.count(step), self._n_min_trials)
        total = min(curves.completed, max(self._n_min_trials, self._n_startup_trials))
        others = [_stand_in({}, {})] * (total - with_value)
        return [_stand_in({step: value}, {})] * with_value + others


class QuickMedian(QuickPercentile, MedianPruner):
    """Optuna's median pruner."""


class QuickHalving(SuccessiveHalvingPruner):
    """Optuna's successive halving (ASHA), for one study.

    Its verdict in a rung depends on the value of the last trial that would be promoted without this
    one, and on whether the rung has enough trials.
    """

    _stand_ins: StandIns | None = None
    _rungs: defaultdict[str, list[float]] | None = None

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Returns Optuna's verdict."""
        if self._rungs is None:
            self._rungs = _values_by_rung(study.get_trials(deepcopy=False))
        if self._min_resource is None:  # it is estimated from the completed trials
            verdict = super().prune(study, trial)
        else:
            shown = self._equivalent(self._rungs, study.direction)
            self._stand_ins = _shown(self._stand_ins, study, shown)
            verdict = super().prune(self._stand_ins, trial)
        now = _seen_storage(study).trial(trial.number)
        for key in _rungs(now) - _rungs(trial):
            bisect.insort(self._rungs[key], now.system_attrs[key])
        return verdict

    def _equivalent(
        self, rungs: dict[str, list[float]], direction: StudyDirection
    ) -> list[FrozenTrial]:
        shown: list[FrozenTrial] = []
        for key, values in rungs.items():
            promoted = max((len(values) + 1) // self._reduction_factor, 1)
            is_maximized = direction is StudyDirection.MAXIMIZE
            last = values[-promoted] if is_maximized else values[promoted - 1]
            count = min(len(values), max(self._bootstrap_count, 1))
            shown += [_stand_in({}, {key: last})] * count
        return shown


class QuickHyperband(HyperbandPruner):
    """Optuna's Hyperband, for one study."""

    def _try_initialization(self, study: optuna.Study) -> None:
        super()._try_initialization(study)
        self._pruners = [
            QuickHalving(
                min_resource=self._min_resource,
                reduction_factor=self._reduction_factor,
                min_early_stopping_rate=bracket,
                bootstrap_count=self._bootstrap_count,
            )
            for bracket in range(len(self._pruners))
        ]


def _rungs(trial: FrozenTrial) -> set[str]:
    return {key for key in trial.system_attrs if key.startswith(_RUNG)}


def _values_by_rung(trials: Iterable[FrozenTrial]) -> defaultdict[str, list[float]]:
    """Returns the values of each rung, sorted."""
    found: defaultdict[str, list[float]] = defaultdict(list)
    for trial in trials:
        for key in _rungs(trial):
            found[key].append(trial.system_attrs[key])
    for values in found.values():
        values.sort()
    return found


#: What takes the place of Optuna's pruners.
QUICK: dict[type[BasePruner], type[BasePruner]] = {
    PercentilePruner: QuickPercentile,
    MedianPruner: QuickMedian,
    SuccessiveHalvingPruner: QuickHalving,
    HyperbandPruner: QuickHyperband,
}
