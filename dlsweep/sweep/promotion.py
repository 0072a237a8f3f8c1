"""Pauses and promotes the trials of a study, for a pruner with rungs.

The rung that a trial was promoted to is a user attribute of Optuna's trial, beside its status.
"""

from __future__ import annotations

import optuna
from optuna.trial import TrialState

from dlsweep.sweep.pausing import STATUS, Pauses, Trial
from dlsweep.sweep.rungs import PromotePruner

_RUNG, _HIGHEST = "rung", "highest_rung"


class Promotion(Pauses):
    """The trials of a study that wait for their promotion.

    Args:
        study: The study.
        rungs: The pruner's rungs.
    """

    way_out = ", or let trials start over at each rung:  hydra.sweeper.pruner.start_over=true"

    def __init__(self, study: optuna.Study, rungs: PromotePruner) -> None:
        super().__init__(study)
        self.rungs = rungs
        self.may_start_over = rungs.start_over
        for trial in study.get_trials(deepcopy=False):
            rungs.note(trial.number, trial.intermediate_values, trial.user_attrs.get(_RUNG))
            if trial.state is TrialState.RUNNING and rungs.is_reached(trial.number):
                rungs.pause(trial.number)
        if (highest := study.user_attrs.get(_HIGHEST)) is not None:
            rungs.highest = highest

    def _paused_before(self) -> set[int]:
        return self.rungs.paused

    def is_due(self, trial: Trial) -> bool:
        """Whether a trial has reached the rung at which it pauses."""
        self.rungs.note(trial.number, trial.curve)
        if self.rungs.highest != self._study.user_attrs.get(_HIGHEST):
            self._study.set_user_attr(_HIGHEST, self.rungs.highest)
        return self.rungs.is_reached(trial.number)

    def pause(self, trial: Trial) -> None:
        """Makes a trial that has reached its rung wait."""
        super().pause(trial)
        self.rungs.pause(trial.number)

    def next(self, others_begin: bool) -> Trial | None:  # noqa: ARG002 - promoted ones come first
        """Returns the trial that goes on to its next rung now, if one may."""
        return self._go_on(self.rungs.promote())

    def last(self) -> Trial | None:
        """Returns the best paused trial, which goes on to the end of its training."""
        return self._go_on(self.rungs.promote_to_the_end())

    def end(self, trial: Trial, status: str) -> None:
        """Notes how a trial has ended; it waits no longer."""
        trial.optuna.set_user_attr(STATUS, status)
        self.rungs.end(trial.number)
        self._waiting.pop(trial.number, None)

    def _go_on(self, number: int | None) -> Trial | None:
        if number is None:
            return None
        trial = self._waiting.pop(number)
        trial.optuna.set_user_attr(_RUNG, self.rungs.target(number))
        trial.optuna.set_user_attr(STATUS, "open")
        return trial
