"""What a sampler and a pruner see of a study, where that is not what is stored.

A sampler sees the trials of earlier studies first, and a paused trial as a pruned one. A pruner
sees the curves of completed trials as arrays (:mod:`dlsweep.sweep.quick_pruners`).
"""

from __future__ import annotations

import contextlib
import copy
import math
from array import array
from collections import defaultdict
from collections.abc import Container, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from dlsweep.sweep.storage import Direction, OneWriterStorage


class Curves:
    """The values that completed trials have reported, by step."""

    def __init__(self, completed: Iterable[FrozenTrial]) -> None:
        self.completed = 0
        self._values: defaultdict[int, array[float]] = defaultdict(lambda: array("d"))
        self._known: dict[tuple[int, float], tuple[int, float]] = {}
        for trial in completed:
            self.add(trial)

    def add(self, trial: FrozenTrial) -> None:
        """Adds the values of a trial that is complete now."""
        self.completed += 1
        for step, value in trial.intermediate_values.items():
            self._values[step].append(value)

    def count(self, step: int) -> int:
        """Returns how many trials have a value at a step, NaN included."""
        return len(self._values[step])

    def percentile(self, step: int, percentile: float) -> float:
        """Returns a percentile of the values at a step, without NaN; NaN if there are none."""
        count, known = self._known.get((step, percentile), (0, math.nan))
        if count != self.count(step):
            values = np.array(self._values[step])
            values = values[~np.isnan(values)]
            known = float(np.nanpercentile(values, percentile)) if len(values) else math.nan
            self._known[step, percentile] = self.count(step), known
        return known


class SeenStorage(OneWriterStorage):
    """A study's storage that can show a paused trial as a pruned one, and knows all curves."""

    def __init__(self, disk: BaseStorage, name: str, directions: Sequence[Direction]) -> None:
        self._seen_as_pruned: frozenset[int] = frozenset()
        self._curves: Curves | None = None
        super().__init__(disk, name, directions)
        self._study = self.get_study_id_from_name(name)

    def trial(self, number: int) -> FrozenTrial:
        """Returns a trial by its number."""
        return self.get_trial(self.get_trial_id_from_study_id_trial_number(self._study, number))

    @property
    def curves(self) -> Curves:
        """What completed trials have reported; made when it is first asked for."""
        if self._curves is None:
            completed = (TrialState.COMPLETE,)
            self._curves = Curves(self.get_all_trials(self._study, False, completed))
        return self._curves

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        """Creates a trial in memory; :meth:`flush` writes it."""
        trial_id = super().create_new_trial(study_id, template_trial)
        self._note_completed(trial_id)
        return trial_id

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        """Writes to memory, then to disk."""
        is_set = super().set_trial_state_values(trial_id, state, values)
        self._note_completed(trial_id)
        return is_set

    def _note_completed(self, trial_id: int) -> None:
        trial = self.get_trial(trial_id)
        if self._curves and trial.state is TrialState.COMPLETE:
            self._curves.add(trial)

    @contextlib.contextmanager
    def seen_as_pruned(self, numbers: Iterable[int]) -> Iterator[None]:
        """Shows some running trials as pruned: a sampler learns from those, not from running ones.

        Args:
            numbers: The trials, by number.
        """
        self._seen_as_pruned = frozenset(numbers)
        try:
            yield
        finally:
            self._seen_as_pruned = frozenset()

    def get_all_trials(
        self,
        study_id: int,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
    ) -> list[FrozenTrial]:
        """Reads the trials from memory."""
        if not self._seen_as_pruned:
            return super().get_all_trials(study_id, deepcopy, states)
        trials = map(self._shown, super().get_all_trials(study_id, deepcopy))
        return [trial for trial in trials if states is None or trial.state in states]

    def _shown(self, trial: FrozenTrial) -> FrozenTrial:
        if trial.number not in self._seen_as_pruned:
            return trial
        shown = copy.copy(trial)
        shown.state = TrialState.PRUNED
        return shown


class SeenStudy(optuna.Study):
    """A study as its sampler sees it: the earlier trials have the first numbers.

    What a sampler stores goes to the study itself. The earlier trials are in no storage.

    Args:
        name: The study's name.
        storage: Its storage.
        earlier: Finished trials, numbered from 0.
    """

    def __init__(self, name: str, storage: BaseStorage, earlier: Sequence[FrozenTrial]) -> None:
        super().__init__(name, storage)
        self.earlier = list(earlier)
        self._finished: dict[int, tuple[FrozenTrial, FrozenTrial]] = {}  # own, and as shown

    def renumbered(self, trial: FrozenTrial) -> FrozenTrial:
        """Returns one of the study's own trials, numbered after the earlier ones."""
        own, known = self._finished.get(trial.number, (None, trial))
        if own is trial:  # a paused trial is shown as a finished one, until it goes on
            return known
        shown = copy.copy(trial)
        shown.number = len(self.earlier) + trial.number
        if trial.state.is_finished():
            self._finished[trial.number] = (trial, shown)
        return shown

    def _get_trials(  # every sampler of Optuna's reads trials with this method
        self,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
        use_cache: bool = False,  # noqa: ARG002 - Optuna's signature; the storage is in memory
    ) -> list[FrozenTrial]:
        own = super()._get_trials(deepcopy=False, states=states)
        earlier = [one for one in self.earlier if states is None or one.state in states]
        trials = [*earlier, *map(self.renumbered, own)]
        return copy.deepcopy(trials) if deepcopy else trials


class WarmSampler(BaseSampler):
    """A sampler that also learns from earlier trials.

    Args:
        sampler: The sampler.
        study: The study that it shall see.
    """

    def __init__(self, sampler: BaseSampler, study: SeenStudy) -> None:
        self.sampler = sampler
        self.study = study

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Returns the keys that the sampler samples jointly."""
        del study
        return self.sampler.infer_relative_search_space(self.study, self.study.renumbered(trial))

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Samples keys jointly."""
        del study
        shown = self.study.renumbered(trial)
        return self.sampler.sample_relative(self.study, shown, search_space)

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Samples a key by itself."""
        del study
        shown = self.study.renumbered(trial)
        return self.sampler.sample_independent(self.study, shown, param_name, param_distribution)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Tells the sampler that a trial begins."""
        del study
        self.sampler.before_trial(self.study, self.study.renumbered(trial))

    def after_trial(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        """Tells the sampler that a trial has ended."""
        del study
        self.sampler.after_trial(self.study, self.study.renumbered(trial), state, values)

    def reseed_rng(self) -> None:
        """Gives the sampler another seed."""
        self.sampler.reseed_rng()
