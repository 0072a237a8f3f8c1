"""Pauses and promotes the trials of a study, for a pruner with rungs.

A paused trial is a running one in Optuna's storage, with the user attribute ``status: paused``; the
rung that it was promoted to is another attribute. So the study on disk tells after any kill which
trials wait, and where.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import optuna
from optuna.trial import FrozenTrial, TrialState

from dlsweep.sweep.rungs import PromotePruner
from dlsweep.sweep.space import Scalar

STATUS = "status"
_RUNG, _HIGHEST = "rung", "highest_rung"


@dataclass
class Trial:
    """A trial to run or to resume; its curve has the reported values by step."""

    number: int
    params: dict[str, Scalar]
    overrides: list[str]
    optuna: optuna.Trial
    curve: dict[int, float] = field(default_factory=dict)


class Promotion:
    """The trials of a study that wait for their promotion.

    Args:
        study: The study.
        rungs: The pruner's rungs; None if trials are never paused.
    """

    def __init__(self, study: optuna.Study, rungs: PromotePruner | None) -> None:
        self.rungs = rungs
        self._study = study
        self._waiting: dict[int, Trial] = {}
        if rungs:
            self._restore(rungs, study.get_trials(deepcopy=False))

    @property
    def paused(self) -> list[Trial]:
        """The trials that wait for their promotion."""
        return list(self._waiting.values())

    @property
    def may_start_over(self) -> bool:
        """Whether a training without checkpoints may start over at each rung."""
        return self.rungs is not None and self.rungs.start_over

    def take_paused(self, trials: Sequence[Trial]) -> list[Trial]:
        """Takes the paused ones of the unfinished trials; returns the others."""
        paused = self.rungs.paused if self.rungs else set()
        self._waiting = {trial.number: trial for trial in trials if trial.number in paused}
        return [trial for trial in trials if trial.number not in paused]

    def is_due(self, trial: Trial) -> bool:
        """Whether a trial has reached the rung at which it pauses."""
        if self.rungs is None:
            return False
        self.rungs.note(trial.number, trial.curve)
        if self.rungs.highest != self._study.user_attrs.get(_HIGHEST):
            self._study.set_user_attr(_HIGHEST, self.rungs.highest)
        return self.rungs.is_reached(trial.number)

    def pause(self, trial: Trial) -> None:
        """Makes a trial that has reached its rung wait."""
        assert self.rungs
        trial.optuna.set_user_attr(STATUS, "paused")
        self.rungs.pause(trial.number)
        self._waiting[trial.number] = trial

    def promote(self) -> Trial | None:
        """Returns the trial that goes on to its next rung now, if one may."""
        return self._go_on(self.rungs.promote()) if self.rungs else None

    def promote_to_the_end(self) -> Trial | None:
        """Returns the best paused trial, which goes on to the end of its training."""
        return self._go_on(self.rungs.promote_to_the_end()) if self.rungs else None

    def end(self, trial: Trial, status: str) -> None:
        """Notes how a trial has ended; it waits no longer."""
        if self.rungs:
            trial.optuna.set_user_attr(STATUS, status)
            self.rungs.end(trial.number)
            self._waiting.pop(trial.number, None)

    def _go_on(self, number: int | None) -> Trial | None:
        if number is None:
            return None
        assert self.rungs
        trial = self._waiting.pop(number)
        trial.optuna.set_user_attr(_RUNG, self.rungs.target(number))
        trial.optuna.set_user_attr(STATUS, "open")
        return trial

    def _restore(self, rungs: PromotePruner, trials: Sequence[FrozenTrial]) -> None:
        """Brings the rungs to where an earlier driver has left them."""
        for trial in trials:
            rungs.note(trial.number, trial.intermediate_values, trial.user_attrs.get(_RUNG))
            if trial.state is TrialState.RUNNING and rungs.is_reached(trial.number):
                rungs.pause(trial.number)
        if (highest := self._study.user_attrs.get(_HIGHEST)) is not None:
            rungs.highest = highest
