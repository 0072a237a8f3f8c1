"""The population of population based training: who pauses, who goes on, and with whose weights.

At the end of an interval a trial pauses if it is among the worst, or if others wait for its slot.
A paused trial that is among the worst goes on from a copy of the checkpoint of one of the best,
with that trial's parameters, of which some are changed. Its steps never go back: it copies a
checkpoint of its own step or a later one, and waits for one if need be. Its slot is free meanwhile.

The decision is stored in the study before anything acts on it: the user attribute ``lineage`` of
Optuna's trial. ``paused_at`` and ``went_on_at`` tell which trials wait, after any kill.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from dlsweep.errors import ConfigError
from dlsweep.folders.lineage import (
    LINEAGE_ATTR,
    Inheritance,
    plain,
    read_lineage,
    write_lineage,
)
from dlsweep.folders.rundir import RunDir
from dlsweep.folders.studydir import StudyDir
from dlsweep.run.inheritance import newest, stage, take
from dlsweep.sweep.pausing import STATUS, Pauses, Trial, store_point
from dlsweep.sweep.pbt import PopulationBasedTraining
from dlsweep.sweep.space import Scalar, SearchSpace

_PAUSED, _WENT_ON = "paused_at", "went_on_at"
#: The study's attribute with the keys that change.
_KEYS = "perturbed"


@dataclass
class _Member:
    """A trial that has not ended: its lineage and parameters, its last step and its values."""

    lineage: list[Inheritance]
    params: dict[str, Scalar] = field(default_factory=dict)
    step: int = 0
    _curve: dict[int, float] = field(default_factory=dict)

    @property
    def base(self) -> int:
        """The step that its weights were copied at."""
        return self.lineage[-1].step if self.lineage else 0

    def note(self, curve: Mapping[int, float]) -> None:
        """Notes what it has reported; values from before it has copied others count no more."""
        self._curve = {step: value for step, value in curve.items() if step > self.base}
        self.step = max(self._curve, default=self.base)

    def value(self, step: int) -> float | None:
        """Returns its latest value up to a step, so that nobody is ahead by training longer."""
        last = max((one for one in self._curve if one <= step), default=None)
        return None if last is None else self._curve[last]


@dataclass
class _Found:
    """What an earlier driver has left of a study's trials."""

    members: dict[int, _Member] = field(default_factory=dict)
    paused: set[int] = field(default_factory=set)

    def add(self, trial: FrozenTrial) -> None:
        """Adds a trial that has not ended."""
        attrs, curve = trial.user_attrs, trial.intermediate_values
        where = f"trial {trial.number} of the study"
        lineage = read_lineage(attrs.get(LINEAGE_ATTR, []), where)
        self.members[trial.number] = member = _Member(lineage)
        member.note(curve)
        last = max(curve, default=0)
        has_copied = bool(lineage) and lineage[-1].at == last
        if attrs.get(_PAUSED) == last != attrs.get(_WENT_ON) and not has_copied:
            self.paused.add(trial.number)


class Population(Pauses):
    """The trials of a study under population based training.

    Args:
        study: The study.
        rules: The rules.
        space: The search space.
        folder: The study folder, in which checkpoints are copied.
        seed: The seed of what is drawn; None for none.

    Raises:
        StudyError: If the lineage of a trial in the study is damaged.
        ConfigError: If a key to change is not one of the space.
    """

    def __init__(
        self,
        study: optuna.Study,
        rules: PopulationBasedTraining,
        space: SearchSpace,
        folder: StudyDir,
        seed: int | None,
    ) -> None:
        super().__init__(study)
        self._rules = rules
        self._space = space
        self._folder = folder
        self._seed = seed
        self._keys = rules.keys(space)
        found = _Found()
        for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            found.add(trial)
        self._members, self._paused = found.members, found.paused

    @property
    def keys(self) -> list[str]:
        """The keys that change during a training, if they leave the weights' shapes as they are."""
        return self._keys

    def variants(self, key: str) -> Iterator[list[dict[str, Scalar]]]:
        """Yields lists of points that differ in a key alone, to compare their models."""
        return self._space.variants(key)

    def preflight(self, changes: Mapping[str, str]) -> None:
        """Chooses the keys that change: those that leave the shapes of all weights as they are.

        Args:
            changes: For each key that changes them, how.

        Raises:
            ConfigError: If one is asked for that does change them, or none is left.
        """
        for key in self._rules.perturb or ():
            if key in changes:
                raise ConfigError(
                    f"hydra.sweeper.pruner.perturb: Received {key}, and {changes[key]}. A trial "
                    "goes on with the weights that it has copied.\nExpected keys that leave the "
                    "shapes of the weights as they are; a trial takes over this one from its donor."
                )
        keys = [key for key in self.keys if key not in changes]
        if not keys:
            raise ConfigError(
                "hydra/sweeper/pruner=pbt: Every swept key changes the shapes of the weights: "
                f"{', '.join(changes)}.\nSweep one that a training can take up, such as "
                "training.optimizer.lr"
            )
        if self._study.user_attrs.get(_KEYS) != keys:
            self._study.set_user_attr(_KEYS, keys)

    def take_paused(self, trials: Sequence[Trial]) -> list[Trial]:
        """Takes the paused ones of the unfinished trials; returns the others."""
        for trial in trials:
            self._member(trial)
        return super().take_paused(trials)

    def _paused_before(self) -> set[int]:
        return self._paused

    def lineage(self, number: int) -> list[Inheritance]:
        """Returns whose weights a trial has gone on from."""
        member = self._members.get(number)
        return list(member.lineage) if member else []

    def is_due(self, trial: Trial) -> bool:
        """Whether a trial pauses: at the end of an interval, among the worst or for others."""
        member = self._member(trial)
        before = member.step
        member.note(trial.curve)
        if not self._rules.is_boundary(before, member.step, member.base):
            return False
        low, _ = self._quantiles(member.step)
        if trial.number not in low and not self.others_wait:
            return False
        trial.optuna.set_user_attr(_PAUSED, member.step)
        return True

    def next(self, others_begin: bool) -> Trial | None:
        """Returns the paused trial that goes on now: the least advanced one that may.

        Args:
            others_begin: Whether there are trials that have not begun; they come first.
        """
        if others_begin:
            return None
        waiting = sorted(self._waiting, key=lambda number: (self._members[number].step, number))
        for number in waiting:
            trial = self._waiting[number]
            if self._decide(trial):
                trial.optuna.set_user_attr(STATUS, "open")
                del self._waiting[number]
                return trial
        return None

    def prepare(self, trial: Trial, folder: RunDir) -> None:
        """Puts the checkpoint in place that a trial has copied, and notes down its lineage."""
        lineage = trial.lineage or [Inheritance.beginning(trial.params)]
        take(folder, lineage)
        write_lineage(folder, lineage)

    def end(self, trial: Trial, status: str) -> None:
        """Notes how a trial has ended: it is copied no more."""
        trial.optuna.set_user_attr(STATUS, status)
        self._waiting.pop(trial.number, None)
        self._members.pop(trial.number, None)

    def _quantiles(self, step: int) -> tuple[list[int], list[int]]:
        values = {number: one.value(step) for number, one in self._members.items()}
        return self._rules.quantiles({n: one for n, one in values.items() if one is not None})

    def _decide(self, trial: Trial) -> bool:
        """Decides how a paused trial goes on; returns False if it has to wait."""
        step = self._members[trial.number].step
        low, top = self._quantiles(step)
        if trial.number in low:
            dice = self._dice(trial.number, step)
            for donor in dice.sample(top, len(top)):
                if self._copies(trial, donor, dice):
                    return True
            if any(self._may_still_save(donor) for donor in top):
                return False
        trial.optuna.set_user_attr(_WENT_ON, step)
        return True

    def _dice(self, number: int, step: int) -> random.Random:
        seed = None if self._seed is None else f"{self._seed}:{number}:{step}"
        return random.Random(seed)  # noqa: S311 - no secret depends on it

    def _may_still_save(self, donor: int) -> bool:
        """Whether a donor trains now, and has not reached the end of its training."""
        is_over = self._members[donor].step >= self._rules.max_resource
        return donor not in self._waiting and not is_over

    def _copies(self, trial: Trial, donor: int, dice: random.Random) -> bool:
        """Lets a trial copy another one, if that has a checkpoint to copy."""
        run, member = self._folder.trial(trial.number), self._members[trial.number]
        found = newest(self._folder.trial(donor), member.step, self._rules.max_resource - 1)
        if found is None:
            return False
        params, changed = self._explored(donor, dice)
        entry = Inheritance(member.step, donor, found.step, found.path.name, params, changed)
        if not stage(found, run, entry):
            return False
        lineage = [*(trial.lineage or [Inheritance.beginning(trial.params)]), entry]
        trial.optuna.set_user_attr(LINEAGE_ATTR, plain(lineage))
        trial.lineage, trial.params = lineage, params
        trial.overrides = self._space.overrides(params)
        store_point(trial)
        self._member(trial).lineage = lineage
        member.note(trial.curve)
        return True

    def _explored(
        self, donor: int, dice: random.Random
    ) -> tuple[dict[str, Scalar], dict[str, list[Any]]]:
        """Returns a donor's parameters with some changed, and what has changed."""
        before = self._members[donor].params
        keys = self._study.user_attrs.get(_KEYS, self.keys)
        params = {
            one.key: self._rules.explore(one, before[one.key], dice)
            if one.key in keys
            else before[one.key]
            for one in self._space.dimensions
            if one.key in before
        }
        return params, {
            key: [before[key], value] for key, value in params.items() if value != before[key]
        }

    def _member(self, trial: Trial) -> _Member:
        member = self._members.setdefault(trial.number, _Member(trial.lineage))
        member.params = trial.params
        return member
