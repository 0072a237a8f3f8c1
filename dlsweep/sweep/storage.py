"""The Optuna storage of a study with one writer: reads from memory, writes through to disk."""

from __future__ import annotations

import contextlib
import io
import pickle
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage, InMemoryStorage, RDBStorage
from optuna.trial import TrialState

from dlsweep.errors import StudyError
from dlsweep.results.database import AwayError, wait_for_creation

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

#: Seconds between two tries to reach a server that does not answer: at first, and at most.
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 5.0
#: Seconds that :meth:`OneWriterStorage.flush` may take: trials wait for the driver's answers.
_LONGEST_FLUSH = 0.25


@dataclass
class Outage:
    """The time in which a database server does not answer; times are monotonic.

    Attributes:
        reason: What the last try ended with.
        since: When it began.
        retry_at: When it is tried next.
    """

    reason: str = ""
    since: float = field(default_factory=time.monotonic)
    retry_at: float = 0.0
    _wait: float = _FIRST_WAIT

    @property
    def seconds(self) -> float:
        """How long it has lasted."""
        return time.monotonic() - self.since

    def go_on(self, reason: str) -> None:
        """Notes that another try has failed."""
        self.reason = reason
        self.retry_at = time.monotonic() + self._wait
        self._wait = min(2 * self._wait, _LONGEST_WAIT)


class OneWriterStorage(InMemoryStorage):
    """Keeps one study of another storage in memory. Only one process may write to the study.

    Samplers and pruners read every trial again and again. A database takes tens of milliseconds for
    that; memory takes none. A change is made in memory, then on disk. Only a new trial waits for
    :meth:`flush`, which writes it in one transaction, so it is never stored in part.

    If the disk is a server that does not answer, changes wait in memory, in their order, and
    :meth:`flush` tries again. Should this process end before, they are in the run folders.

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
        stored = optuna.create_study(
            study_name=name, storage=disk, directions=list(directions), load_if_exists=True
        )
        self._disk_study = disk.get_study_id_from_name(name)
        self._disk_trials: dict[int, int] = {}
        self._behind: deque[Callable[[], object]] = deque()
        self._in_doubt = False  # whether the server has carried out what failed last
        self.outage: Outage | None = None
        study = super().create_new_study(stored.directions, name)
        for key, value in disk.get_study_user_attrs(self._disk_study).items():
            super().set_study_user_attr(study, key, value)
        for key, value in disk.get_study_system_attrs(self._disk_study).items():
            super().set_study_system_attr(study, key, value)
        for trial in disk.get_all_trials(self._disk_study, deepcopy=False):
            _check_trusted(trial.number, trial.system_attrs)
            self._disk_trials[super().create_new_trial(study, trial)] = trial._trial_id

    def flush(self) -> bool:
        """Writes what is not on disk yet; new trials each in one transaction.

        Returns:
            Whether everything is on disk. If not, ``outage`` says why.
        """
        if self.outage and time.monotonic() < self.outage.retry_at:
            return False
        limit = time.monotonic() + _LONGEST_FLUSH
        try:
            self._write_behind(limit)
            new = range(len(self._disk_trials), self._max_trial_id + 1)
            for trial_id in () if self._behind else new:
                self._disk_trials[trial_id] = self._create(trial_id)
                self._in_doubt = False
        except AwayError as error:
            self._in_doubt = True
            self.outage = self.outage or Outage()
            self.outage.go_on(error.reason)
            return False
        if not self._behind:
            self.outage = None
        return not self._behind

    def _write(self, change: Callable[[], object]) -> None:
        """Makes a change on disk, or keeps it for :meth:`flush` if the disk is behind already."""
        self._behind.append(change)
        if not self.outage:
            try:
                self._write_behind()
            except AwayError as error:
                self._in_doubt = True
                self.outage = Outage()
                self.outage.go_on(error.reason)

    def _write_trial(self, trial_id: int, change: Callable[[int], object]) -> None:
        """Makes a change of a trial on disk; of one that is not there yet, :meth:`flush` does."""
        if (stored := self._disk_trials.get(trial_id)) is not None:
            self._write(lambda: change(stored))

    def _write_behind(self, limit: float = float("inf")) -> None:
        while self._behind and time.monotonic() < limit:
            try:
                self._behind[0]()
            except UpdateFinishedTrialError:
                if not self._in_doubt:
                    raise
            self._behind.popleft()
            self._in_doubt = False

    def _create(self, trial_id: int) -> int:
        template = self.get_trial(trial_id)
        if self._in_doubt:
            wait_for_creation(self._disk, self._disk_study)
            with contextlib.suppress(KeyError):
                return self._disk.get_trial_id_from_study_id_trial_number(
                    self._disk_study, template.number
                )
        return self._disk.create_new_trial(self._disk_study, template)

    def close(self) -> None:
        """Closes the database. Its file is complete then, without a write-ahead log."""
        self._disk.remove_session()
        if isinstance(self._disk, RDBStorage):
            self._disk.engine.dispose()

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        """Writes to memory, then to disk."""
        super().set_study_user_attr(study_id, key, value)
        self._write(lambda: self._disk.set_study_user_attr(self._disk_study, key, value))

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        """Writes to memory, then to disk."""
        super().set_study_system_attr(study_id, key, value)
        self._write(lambda: self._disk.set_study_system_attr(self._disk_study, key, value))

    def set_trial_param(
        self,
        trial_id: int,
        param_name: str,
        param_value_internal: float,
        distribution: BaseDistribution,
    ) -> None:
        """Writes to memory, then to disk."""
        given = param_name, param_value_internal, distribution
        super().set_trial_param(trial_id, *given)
        self._write_trial(trial_id, lambda stored: self._disk.set_trial_param(stored, *given))

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        """Writes to memory, then to disk."""
        if not super().set_trial_state_values(trial_id, state, values):
            return False
        self._write_trial(
            trial_id, lambda stored: self._disk.set_trial_state_values(stored, state, values)
        )
        return True

    def set_trial_intermediate_value(
        self, trial_id: int, step: int, intermediate_value: float
    ) -> None:
        """Writes to memory, then to disk."""
        given = step, intermediate_value
        super().set_trial_intermediate_value(trial_id, *given)
        self._write_trial(
            trial_id, lambda stored: self._disk.set_trial_intermediate_value(stored, *given)
        )

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Writes to memory, then to disk."""
        super().set_trial_user_attr(trial_id, key, value)
        self._write_trial(
            trial_id, lambda stored: self._disk.set_trial_user_attr(stored, key, value)
        )

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Writes to memory, then to disk."""
        super().set_trial_system_attr(trial_id, key, value)
        self._write_trial(
            trial_id, lambda stored: self._disk.set_trial_system_attr(stored, key, value)
        )


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
