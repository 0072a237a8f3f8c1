"""The study's record for its one writer: read from memory, written through to disk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import optuna
from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.trial import TrialState

Direction: TypeAlias = Literal["minimize", "maximize"]


class OneWriterStorage(InMemoryStorage):
    """One study of another storage, held in memory by the only process that changes it.

    Samplers and pruners read every trial again and again, which costs a database tens of
    milliseconds each time; here it costs nothing. A change is on disk before it is in memory; only
    a new trial waits for :meth:`flush`, which writes it whole, so that none is ever there in part.

    Args:
        disk: Where the study lies.
        name: Its name; it is created if it is not there.
        directions: ``minimize`` or ``maximize`` for each objective.
    """

    def __init__(self, disk: BaseStorage, name: str, directions: Sequence[Direction]) -> None:
        super().__init__()
        self._disk = disk
        stored = optuna.create_study(
            study_name=name, storage=disk, directions=list(directions), load_if_exists=True
        )
        self._disk_study = stored._study_id
        self._disk_trials: dict[int, int] = {}
        study = super().create_new_study(stored.directions, name)
        for key, value in disk.get_study_user_attrs(self._disk_study).items():
            super().set_study_user_attr(study, key, value)
        for key, value in disk.get_study_system_attrs(self._disk_study).items():
            super().set_study_system_attr(study, key, value)
        for trial in disk.get_all_trials(self._disk_study, deepcopy=False):
            self._disk_trials[super().create_new_trial(study, trial)] = trial._trial_id

    def flush(self) -> None:
        """Writes the trials that are not on disk yet, each in one transaction."""
        for trial_id in range(len(self._disk_trials), self._max_trial_id + 1):
            template = self.get_trial(trial_id)
            self._disk_trials[trial_id] = self._disk.create_new_trial(self._disk_study, template)

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        """Writes it to both."""
        self._disk.set_study_user_attr(self._disk_study, key, value)
        super().set_study_user_attr(study_id, key, value)

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        """Writes it to both."""
        self._disk.set_study_system_attr(self._disk_study, key, value)
        super().set_study_system_attr(study_id, key, value)

    def set_trial_param(
        self,
        trial_id: int,
        param_name: str,
        param_value_internal: float,
        distribution: BaseDistribution,
    ) -> None:
        """Writes it to both."""
        if (stored := self._disk_trials.get(trial_id)) is not None:
            self._disk.set_trial_param(stored, param_name, param_value_internal, distribution)
        super().set_trial_param(trial_id, param_name, param_value_internal, distribution)

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        """Writes it to both."""
        if (stored := self._disk_trials.get(trial_id)) is not None:
            self._disk.set_trial_state_values(stored, state, values)
        return super().set_trial_state_values(trial_id, state, values)

    def set_trial_intermediate_value(
        self, trial_id: int, step: int, intermediate_value: float
    ) -> None:
        """Writes it to both."""
        if (stored := self._disk_trials.get(trial_id)) is not None:
            self._disk.set_trial_intermediate_value(stored, step, intermediate_value)
        super().set_trial_intermediate_value(trial_id, step, intermediate_value)

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Writes it to both."""
        if (stored := self._disk_trials.get(trial_id)) is not None:
            self._disk.set_trial_user_attr(stored, key, value)
        super().set_trial_user_attr(trial_id, key, value)

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Writes it to both."""
        if (stored := self._disk_trials.get(trial_id)) is not None:
            self._disk.set_trial_system_attr(stored, key, value)
        super().set_trial_system_attr(trial_id, key, value)
