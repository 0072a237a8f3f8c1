"""Shows a sampler more trials than its study has: those of earlier studies come first."""

from __future__ import annotations

import copy
from collections.abc import Container, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState


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
