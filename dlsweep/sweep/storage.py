"""The Optuna storage of a study with one writer: reads from memory, writes through to disk."""

from __future__ import annotations

import contextlib
import copy
import io
import pickle
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import optuna
from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage, InMemoryStorage, RDBStorage
from optuna.trial import FrozenTrial, TrialState

from dlsweep.errors import StudyError

Direction: TypeAlias = Literal["minimize", "maximize"]
#: The trial attributes in which CMA-ES stores its pickled state, and the only names that such a
#: pickle may contain.
_OPTIMIZERS = ("cma:optimizer", "sepcma:optimizer", "cmawm:optimizer")
_OPTIMIZERS_PARTS = {
    *(("cmaes._cma", "CMA"), ("cmaes._sepcma", "SepCMA"), ("cmaes._cmawm", "CMAwM")),
    *(("numpy", "dtype"), ("numpy", "ndarray"), ("numpy._core.numeric", "_frombuffer")),
    *((f"numpy.{core}.multiarray", "_reconstruct") for core in ("core", "_core")),
    *((f"numpy.{core}.multiarray", "scalar") for core in ("core", "_core")),
}


class OneWriterStorage(InMemoryStorage):
    """Keeps one study of another storage in memory. Only one process may write to the study.

    Samplers and pruners read every trial again and again. A database takes tens of milliseconds for
    that; memory takes none. A change is written to disk first, then to memory. Only a new trial
    waits for :meth:`flush`, which writes it in one transaction, so it is never stored in part.

    Args:
        disk: The storage on disk.
        name: The study's name; the study is created if it does not exist.
        directions: ``minimize`` or ``maximize`` for each objective.

    Raises:
        StudyError: If a stored pickle names anything but a sampler's own parts.
    """

    def __init__(self, disk: BaseStorage, name: str, directions: Sequence[Direction]) -> None:
        super().__init__()
        self._disk = disk
        self._seen_as_pruned: frozenset[int] = frozenset()
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
        """Writes new trials to disk, each in one transaction."""
        for trial_id in range(len(self._disk_trials), self._max_trial_id + 1):
            template = self.get_trial(trial_id)
            self._disk_trials[trial_id] = self._disk.create_new_trial(self._disk_study, template)

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

    def close(self) -> None:
        """Closes the database. Its file is complete then, without a write-ahead log."""
        self._disk.remove_session()
        if isinstance(self._disk, RDBStorage):
            self._disk.engine.dispose()

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        """Writes to disk, then to memory."""
        self.get_study_name_from_id(study_id)  # raises KeyError for another study
        self._disk.set_study_user_attr(self._disk_study, key, value)
        super().set_study_user_attr(study_id, key, value)

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        """Writes to disk, then to memory."""
        self.get_study_name_from_id(study_id)
        self._disk.set_study_system_attr(self._disk_study, key, value)
        super().set_study_system_attr(study_id, key, value)

    def set_trial_param(
        self,
        trial_id: int,
        param_name: str,
        param_value_internal: float,
        distribution: BaseDistribution,
    ) -> None:
        """Writes to disk, then to memory."""
        if (stored := self._disk_trials.get(trial_id)) is not None:
            self._disk.set_trial_param(stored, param_name, param_value_internal, distribution)
        super().set_trial_param(trial_id, param_name, param_value_internal, distribution)

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        """Writes to disk, then to memory."""
        if (stored := self._disk_trials.get(trial_id)) is not None:
            self._disk.set_trial_state_values(stored, state, values)
        return super().set_trial_state_values(trial_id, state, values)

    def set_trial_intermediate_value(
        self, trial_id: int, step: int, intermediate_value: float
    ) -> None:
        """Writes to disk, then to memory."""
        if (stored := self._disk_trials.get(trial_id)) is not None:
            self._disk.set_trial_intermediate_value(stored, step, intermediate_value)
        super().set_trial_intermediate_value(trial_id, step, intermediate_value)

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Writes to disk, then to memory."""
        if (stored := self._disk_trials.get(trial_id)) is not None:
            self._disk.set_trial_user_attr(stored, key, value)
        super().set_trial_user_attr(trial_id, key, value)

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Writes to disk, then to memory."""
        if (stored := self._disk_trials.get(trial_id)) is not None:
            self._disk.set_trial_system_attr(stored, key, value)
        super().set_trial_system_attr(trial_id, key, value)


def _check_trusted(number: int, attributes: Mapping[str, Any]) -> None:
    """Checks which names a trial's pickles contain, without loading them. Optuna will load them.

    Raises:
        StudyError: If a pickle names anything but the optimizer's own parts.
    """
    for key in _OPTIMIZERS:
        parts = [name for name in attributes if name.startswith(key)]
        text = "".join(attributes[f"{key}:{part}"] for part in range(len(parts)))
        if text:
            _Reader(number, bytes.fromhex(text)).load()


class _Nothing:
    """A stand-in for every object that a pickle would build."""

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
                "It is not executed, because a study may come from anybody."
            )
        return _Nothing
