"""The study's record for its one writer: read from memory, written through to disk."""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

import optuna
from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage, InMemoryStorage, RDBStorage
from optuna.trial import TrialState

from dlsweep.errors import StudyError

Direction: TypeAlias = Literal["minimize", "maximize"]
#: Where CMA-ES keeps itself in a trial, pickled, and all that an honest pickle of it names.
_OPTIMIZERS = ("cma:optimizer", "sepcma:optimizer", "cmawm:optimizer")
_OPTIMIZERS_PARTS = {
    *(("cmaes._cma", "CMA"), ("cmaes._sepcma", "SepCMA"), ("cmaes._cmawm", "CMAwM")),
    *(("numpy", "dtype"), ("numpy", "ndarray"), ("numpy._core.numeric", "_frombuffer")),
    *((f"numpy.{core}.multiarray", "_reconstruct") for core in ("core", "_core")),
    *((f"numpy.{core}.multiarray", "scalar") for core in ("core", "_core")),
}


class OneWriterStorage(InMemoryStorage):
    """One study of another storage, held in memory by the only process that changes it.

    Samplers and pruners read every trial again and again, which costs a database tens of
    milliseconds each time; here it costs nothing. A change is on disk before it is in memory; only
    a new trial waits for :meth:`flush`, which writes it whole, so that none is ever there in part.

    Args:
        disk: Where the study lies.
        name: Its name; it is created if it is not there.
        directions: ``minimize`` or ``maximize`` for each objective.

    Raises:
        StudyError: If a sampler that read the study would execute something.
    """

    def __init__(self, disk: BaseStorage, name: str, directions: Sequence[Direction]) -> None:
        super().__init__()
        self._disk = disk
        stored = optuna.create_study(
            study_name=name, storage=disk, directions=list(directions), load_if_exists=True
        )
        self._disk_study = disk.get_study_id_from_name(name)
        self._disk_trials: dict[int, int] = {}
        study = super().create_new_study(stored.directions, name)
        for key, value in disk.get_study_user_attrs(self._disk_study).items():
            super().set_study_user_attr(study, key, value)
        for key, value in disk.get_study_system_attrs(self._disk_study).items():
            super().set_study_system_attr(study, key, value)
        for trial in disk.get_all_trials(self._disk_study, deepcopy=False):
            _check_trusted(trial.number, trial.system_attrs)
            self._disk_trials[super().create_new_trial(study, trial)] = trial._trial_id

    def flush(self) -> None:
        """Writes the trials that are not on disk yet, each in one transaction."""
        for trial_id in range(len(self._disk_trials), self._max_trial_id + 1):
            template = self.get_trial(trial_id)
            self._disk_trials[trial_id] = self._disk.create_new_trial(self._disk_study, template)

    def close(self) -> None:
        """Lets go of the database, whose file is whole then: its write-ahead log is gone."""
        self._disk.remove_session()
        if isinstance(self._disk, RDBStorage):
            self._disk.engine.dispose()

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


def _check_trusted(number: int, attributes: Mapping[str, Any]) -> None:
    """Reads a trial's pickles, which Optuna will load, for what they name; builds nothing.

    Raises:
        StudyError: If one names something else than the optimizer's parts.
    """
    for key in _OPTIMIZERS:
        parts = [name for name in attributes if name.startswith(key)]
        text = "".join(attributes[f"{key}:{part}"] for part in range(len(parts)))
        if text:
            _Reader(number, bytes.fromhex(text)).load()


class _Nothing:
    """Stands for whatever a pickle would build."""

    def __init__(self, *_: Any) -> None: ...

    def __setstate__(self, _: Any) -> None: ...


class _Reader(pickle.Unpickler):
    def __init__(self, number: int, pickled: bytes) -> None:
        super().__init__(io.BytesIO(pickled))
        self._number = number

    def find_class(self, module: str, name: str) -> type[_Nothing]:
        if (module, name) not in _OPTIMIZERS_PARTS:
            raise StudyError(
                f"trial {self._number} would call {module}.{name}. "
                "Nothing of it is executed, as a study may come from anybody."
            )
        return _Nothing
