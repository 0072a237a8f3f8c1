"""The Optuna study. Only the driver opens it.

A trial's parameters and overrides are stored before the trial is launched, so a kill at any moment
loses no point: an unfinished trial resumes under its own number.
"""

from __future__ import annotations

import functools
import sqlite3
import warnings
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from dlsweep.errors import ConfigError, DlsweepError, StudyError
from dlsweep.folders.database import sqlite_path
from dlsweep.folders.reserved import ENQUEUED, OWN_ATTRS, PEAK_MEMORY, REASON
from dlsweep.folders.rundir import COMPLETED, FAILURES, UNFINISHED, Record, Result
from dlsweep.folders.studydir import StudyDir
from dlsweep.results.database import open_storage
from dlsweep.results.front import with_trial
from dlsweep.sweep import hub
from dlsweep.sweep.earlier import EarlierStudy
from dlsweep.sweep.identity import FOLDER, IDENTITY, check_identity, check_owner, owner_of
from dlsweep.sweep.parts import build, grid, with_search_space_of
from dlsweep.sweep.pausing import POINT, STATUS, Pauses, Trial, store_point
from dlsweep.sweep.pbt import PopulationBasedTraining
from dlsweep.sweep.points import check_point
from dlsweep.sweep.population import Population
from dlsweep.sweep.promotion import Promotion
from dlsweep.sweep.rungs import PromotePruner
from dlsweep.sweep.seen import SeenStorage
from dlsweep.sweep.space import Scalar, SearchSpace
from dlsweep.sweep.storage import Direction, Outage
from dlsweep.sweep.warm_start import WarmStart

_EXHAUSTED = "exhausted"
#: Pruners that are not Optuna's: they pause trials.
_PAUSING = (PromotePruner, PopulationBasedTraining)
#: Samplers that draw from one sequence. A new seed for each trial would break the sequence.
_SEQUENTIAL = ("QMCSampler", "GridSampler")


@dataclass(frozen=True)
class StudySettings:
    """The settings of a study.

    Attributes:
        name: The study's name in its storage.
        storage: An Optuna storage URL; None keeps the study in memory.
        objective: The metrics to optimize.
        directions: ``minimize`` or ``maximize`` for each.
        sampler: The sampler's config, with ``_target_``.
        pruner: The pruner's config; empty for none.
        seed: The sampler's seed; None draws a new one each time.
        enqueue: Points to try first.
        warm_start: Earlier studies, whose trials the sampler learns from.
        identity: What must not change between calls: dotted key to text.
        resolved: The text of each interpolation's value in ``identity``.
    """

    name: str
    storage: str | None
    objective: list[str]
    directions: list[Direction]
    sampler: dict[str, Any]
    pruner: dict[str, Any]
    seed: int | None = None
    enqueue: list[dict[str, Scalar]] = field(default_factory=list)
    warm_start: list[EarlierStudy] = field(default_factory=list)
    identity: dict[str, str] = field(default_factory=dict)
    resolved: dict[str, str] = field(default_factory=dict)


class Study:
    """An open Optuna study.

    Args:
        settings: The study's settings.
        space: The search space.
        folder: The study folder, to which a study in a shared database must belong.

    Raises:
        StudyChangedError: If the study on disk has another space or other fixed values.
        StudyError: If the storage cannot be opened, or has the study of another folder.
        ConfigError: If the sampler or the pruner cannot be built.
    """

    def __init__(
        self, settings: StudySettings, space: SearchSpace, folder: StudyDir | None = None
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.settings = settings
        self.space = space
        self._sampler_seed: int | None = settings.seed
        pruner = _build_pruner(settings)
        self._prunes = bool(settings.pruner) and len(settings.objective) == 1
        if settings.pruner and not self._prunes:
            raise ConfigError(
                "A sweep with several objectives cannot prune: there is no single value to "
                "compare.\n"
                "Type  hydra/sweeper/pruner=none"
            )
        started = settings.warm_start
        self._warm_start = WarmStart(started, space) if started else None
        self._storage = _open(settings)
        self._study = optuna.load_study(
            study_name=settings.name,
            storage=self._storage,
            pruner=optuna.pruners.NopPruner() if isinstance(pruner, _PAUSING) else pruner,
        )
        trials = self._study.get_trials(deepcopy=False)
        attrs = self._study.user_attrs
        check_identity(settings.name, attrs, settings.identity, settings.resolved)
        if folder:
            check_owner(settings.name, settings.storage, attrs, folder, len(trials))
        self._owner = owner_of(folder, settings.storage) if folder else {}
        self._begun = sum(trial.state is not TrialState.WAITING for trial in trials)
        self._study.sampler = self._build_sampler(0 if self._is_sequential else self._begun)
        self._finished = sum(trial.state.is_finished() for trial in trials)
        self._best = {t.number: t.values for t in self._best_trials(trials)}
        self.pauses = self._find_pauses(pruner, folder)
        # A driver that was killed before the first trial may have stored some of the points.
        where = "hydra.sweeper.enqueue"
        points = [] if self._begun else [self._checked_point(p, where) for p in settings.enqueue]
        self._enqueue = points[len(trials) :]

    def begin(self) -> None:
        """Stores the study's identity and its enqueued points, after all checks have passed."""
        self._study.set_user_attr(IDENTITY, self.settings.identity)
        if self._owner:
            self._study.set_user_attr(FOLDER, self._owner)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self._study.set_metric_names(self.settings.objective)  # for Optuna's dashboard
        for point in self._enqueue:
            self._study.enqueue_trial(point, user_attrs={ENQUEUED: "hydra.sweeper.enqueue"})
        self._storage.flush()
        self._enqueue = []

    def enqueue(self, point: dict[str, Scalar], request: str) -> None:
        """Stores a point that is tried next; the same request again changes nothing.

        Args:
            point: Values of some or all keys; the sampler suggests the others.
            request: The name of the request.

        Raises:
            ConfigError: If the point is not in the search space.
        """
        trials = self._study.get_trials(deepcopy=False)
        if not any(trial.user_attrs.get(ENQUEUED) == request for trial in trials):
            self._checked_point(point, "enqueue")
            self._study.enqueue_trial(point, user_attrs={ENQUEUED: request})
            self._storage.flush()

    def close(self) -> None:
        """Closes the storage. Cached study data stays available."""
        self._storage.close()

    def flush(self) -> bool:
        """Returns whether all is stored; tries again to reach a database that does not answer."""
        return self._storage.flush()

    @property
    def outage(self) -> Outage | None:
        """Why the database is behind, if it is."""
        return self._storage.outage

    @property
    def notes(self) -> list[str]:
        """Sentences about what the sampler learns from earlier studies."""
        return self._warm_start.notes if self._warm_start else []

    @property
    def as_optuna(self) -> optuna.Study:
        """The Optuna study, for reading only."""
        return self._study

    @property
    def finished(self) -> int:
        """The number of finished trials, whatever their state."""
        return self._finished

    def open_trials(self) -> list[Trial]:
        """Returns the unfinished trials of earlier drivers, by number."""
        running = self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        return self.pauses.take_paused([self._reopen(frozen) for frozen in running])

    def ask(self, point: dict[str, Scalar] | None = None) -> Trial:
        """Starts a trial: asks the sampler for its parameters and stores them.

        Args:
            point: The parameters, where the sweep chooses them itself (a grid).
        """
        if not (self._is_sequential or self.settings.sampler["_target_"] == hub.SAMPLER):
            self._study.sampler = with_search_space_of(
                self._build_sampler(self._begun), self._study.sampler
            )
        self._begun += 1
        if point is not None:
            self._study.enqueue_trial(point)
        with self._storage.seen_as_pruned(trial.number for trial in self.pauses.paused):
            return self._complete(self._study.ask())

    def judge(self, trial: Trial, records: Sequence[Record]) -> str | None:
        """Reports new records of a trial to Optuna; returns ``pruned``, ``paused`` or None."""
        if not self._prunes:
            return None
        for record in records:
            value = record.metrics.get(self.settings.objective[0])
            if value is not None and record.step > max(trial.curve, default=-1):
                trial.optuna.report(value, record.step)
                trial.curve[record.step] = value
        if trial.optuna.should_prune():
            return "pruned"
        return "paused" if self.pauses.is_due(trial) else None

    def tell(
        self,
        trial: Trial,
        result: Result,
        infeasible: bool = False,
        user_attrs: Mapping[str, Any] | None = None,
    ) -> None:
        """Stores a trial's result. A trial that will be resumed stays unfinished.

        Args:
            trial: The trial.
            result: How it ended.
            infeasible: Whether this failure means that the point violates a constraint.
            user_attrs: What training code has set.
        """
        if result.status in UNFINISHED:
            return
        for key, value in (user_attrs or {}).items():
            if key not in OWN_ATTRS:
                trial.optuna.set_user_attr(key, value)
        if result.peak_memory:
            trial.optuna.set_user_attr(PEAK_MEMORY, result.peak_memory)
        if result.status not in ("completed", "pruned"):
            trial.optuna.set_user_attr(STATUS, result.status)
        self.pauses.end(trial, result.status)
        state, values = TrialState.FAIL, None
        if result.status in COMPLETED and not result.metrics:
            state = TrialState.PRUNED  # Optuna has no completed trial without a value
            trial.optuna.set_user_attr(STATUS, result.status)
        elif result.status in COMPLETED:
            state = TrialState.COMPLETE
            values = [result.metrics[name] for name in self.settings.objective]
            directions = self.settings.directions
            self._best = with_trial(self._best, trial.number, values, directions)
        elif result.status == "pruned":
            state = TrialState.PRUNED
        elif result.status == "stopped":
            trial.optuna.set_user_attr(REASON, "stopped by the user")
        elif result.status == "rejected":  # as if it had run out of memory
            trial.optuna.set_user_attr(REASON, result.reason)
            trial.optuna.set_constraint("out_of_memory", 1.0)
            state = TrialState.PRUNED
        else:
            assert result.status in FAILURES
            trial.optuna.set_user_attr(REASON, f"{result.status}: {result.reason}"[:1000])
            if infeasible:  # samplers ignore failed trials, but they read pruned ones
                trial.optuna.set_constraint(result.status, 1.0)
                state = TrialState.PRUNED
        # A sampler that has tried every point calls study.stop(), which only works within
        # Optuna's own loop. Without these two private names, exhaustion would raise here.
        self._study._thread_local.in_optimize_loop = True
        try:
            self._study.tell(trial.optuna, values, state=state)
        finally:
            self._study._thread_local.in_optimize_loop = False
        self._finished += 1
        if self._study._stop_flag:
            self._study.set_user_attr(_EXHAUSTED, True)

    @staticmethod
    def is_enqueued(trial: Trial) -> bool:
        """Whether the user has asked for a trial's point."""
        return ENQUEUED in trial.optuna.user_attrs

    @property
    def is_exhausted(self) -> bool:
        """Whether the sampler has tried every point of the space."""
        return bool(self._study.user_attrs.get(_EXHAUSTED))

    def finished_trials(self) -> list[FrozenTrial]:
        """Returns every finished trial, by number."""
        return [t for t in self._study.get_trials(deepcopy=False) if t.state.is_finished()]

    @property
    def best(self) -> dict[int, list[float]]:
        """The values of the best trial or of the Pareto front, by trial number; empty at first."""
        return self._best

    def _best_trials(self, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        done = any(trial.state is TrialState.COMPLETE for trial in trials)
        if len(self.settings.objective) > 1:
            return self._study.best_trials
        return [self._study.best_trial] if done else []

    def _complete(self, trial: optuna.Trial) -> Trial:
        params = self.space.suggest(trial)
        overrides = self.space.overrides(params)
        made = Trial(trial.number, params, overrides, trial)
        store_point(made)
        self._storage.flush()
        return made

    def _reopen(self, frozen: FrozenTrial) -> Trial:
        storage = self._storage
        study = storage.get_study_id_from_name(self.settings.name)
        trial_id = storage.get_trial_id_from_study_id_trial_number(study, frozen.number)
        trial = optuna.Trial(self._study, trial_id)
        point = frozen.user_attrs.get(POINT)
        if point is None:
            return self._complete(trial)  # its driver was killed while asking: ask for the rest
        # The overrides are made from the search space: the stored ones may be anybody's.
        lineage = self.pauses.lineage(frozen.number)
        known = lineage[-1].params if lineage else point["params"]
        params = self._checked_point(known, f"trial {frozen.number} of the study")
        curve = dict(frozen.intermediate_values)
        return Trial(frozen.number, params, self.space.overrides(params), trial, curve, lineage)

    def _find_pauses(self, pruner: Any, folder: StudyDir | None) -> Pauses:
        """Returns the paused trials, as the pruner has them."""
        if isinstance(pruner, PromotePruner):
            return Promotion(self._study, pruner)
        if isinstance(pruner, PopulationBasedTraining):
            assert folder
            return Population(self._study, pruner, self.space, folder, self.settings.seed)
        return Pauses(self._study)

    @property
    def _is_sequential(self) -> bool:
        return self.settings.sampler["_target_"].rpartition(".")[2] in _SEQUENTIAL

    def _build_sampler(self, number: int) -> optuna.samplers.BaseSampler:
        config = dict(self.settings.sampler)
        seed = self.settings.seed if config.get("seed") is None else config["seed"]
        if "seed" in config and seed is not None:
            # With one seed for all trials, each trial's sampler would suggest the same first point.
            # Nor may it be that of an earlier study: that study's first points would come again.
            after = f":{self._warm_start.count}" if self._warm_start else ""
            config["seed"] = zlib.crc32(f"{seed}:{number}{after}".encode())
        if config["_target_"] == "optuna.samplers.GridSampler":
            config["search_space"] = grid(self.space)
        if self._warm_start:
            return self._warm_start.build(config, self.settings.name, self._storage)
        sampler: optuna.samplers.BaseSampler = build("sampler", config)
        return sampler

    def _checked_point(self, point: dict[str, Scalar], where: str) -> dict[str, Scalar]:
        spaces = {one.key: one.distribution for one in self.space.dimensions}
        texts = {one.key: one.text for one in self.space.dimensions}
        check_point(point, spaces, where, texts)
        return point


def _build_pruner(settings: StudySettings) -> Any:
    """Builds the pruner; those that pause trials also need to know what is better."""
    if not settings.pruner:
        return optuna.pruners.NopPruner()
    config = dict(settings.pruner)
    if config["_target_"].startswith(tuple(f"{one.__module__}." for one in _PAUSING)):
        config["maximize"] = settings.directions[0] == "maximize"
    return build("pruner", config)


def _open(settings: StudySettings) -> SeenStorage:
    try:
        if database := sqlite_path(settings.storage or ""):
            _prepare_sqlite(database)
        # Optuna's get_storage would keep every trial in memory a second time.
        stored = settings.storage
        memory = optuna.storages.InMemoryStorage()
        disk = open_storage(stored, keep_connection=True) if stored else memory
        return SeenStorage(disk, settings.name, settings.directions)
    except DlsweepError:
        raise
    except Exception as error:
        raise StudyError(
            f"The study's storage {settings.storage} cannot be opened: {error}"
        ) from error


@functools.cache
def _prepare_sqlite(path: Path) -> None:
    """Turns on SQLite's write-ahead log: the file stays readable after a kill or a full disk."""
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
    connection.close()
