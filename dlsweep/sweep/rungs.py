"""Successive halving by promotion: which trial goes on, and how far.

A trial trains to a rung and pauses there. Whenever a slot is free, the best paused trial in the top
``1 / reduction_factor`` of its rung goes on to the next one from its own checkpoint; without one, a
new trial begins. Nothing that was learned is thrown away, and no rung is waited for.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dlsweep.errors import ConfigError

#: The share of close pairs that PASHA takes to be noise: the 90th percentile, as in its paper.
_NOISE = 0.9


@dataclass
class PromotePruner:
    """The rungs of asynchronous successive halving by promotion (ASHA).

    Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020.

    Args:
        min_resource: The step of the lowest rung.
        max_resource: The step of the highest rung: the whole training.
        reduction_factor: One in so many trials of a rung goes on; also the ratio of two rungs.
        brackets: The number of brackets, as in Hyperband: the trials of each next bracket skip one
            more of the lowest rungs.
        start_over: Whether a training that saves no checkpoint may start over at each rung.
        maximize: Whether a higher value is better.

    Raises:
        ConfigError: If there are no rungs for these numbers.
    """

    min_resource: int
    max_resource: int
    reduction_factor: int = 3
    brackets: int = 1
    start_over: bool = False
    maximize: bool = False
    levels: list[int] = field(init=False)

    def __post_init__(self) -> None:
        for name, least in (("min_resource", 1), ("reduction_factor", 2), ("brackets", 1)):
            value = getattr(self, name)
            if not isinstance(value, int) or value < least:
                raise ConfigError(
                    f"hydra.sweeper.pruner.{name}: Received {value!r}. "
                    f"Expected a whole number from {least}."
                )
        self.levels = []
        level = self.min_resource
        while level < self.max_resource:
            self.levels.append(level)
            level *= self.reduction_factor
        self.levels.append(self.max_resource)
        if len(self.levels) <= self.brackets:
            raise ConfigError(
                f"hydra.sweeper.pruner: Received min_resource={self.min_resource}, "
                f"reduction_factor={self.reduction_factor} and brackets={self.brackets} for "
                f"trainings of {self.max_resource} steps, which have {len(self.levels)} rungs: "
                f"{self.levels}.\nExpected more rungs than brackets. Train for more epochs, or "
                "type  hydra.sweeper.pruner.min_resource=1"
            )
        self._values: list[dict[int, float]] = [{} for _ in self.levels]
        self._targets: dict[int, int] = {}
        self._paused: set[int] = set()
        self.highest = len(self.levels) - 1  # the highest rung that trials are promoted to

    @property
    def paused(self) -> set[int]:
        """The numbers of the trials that wait for their promotion."""
        return set(self._paused)

    def target(self, number: int) -> int:
        """Returns the rung that a trial trains to."""
        return self._targets.get(number, self.bracket(number))

    def bracket(self, number: int) -> int:
        """Returns a trial's bracket: the first rung that it trains to.

        As in Hyperband, a bracket whose trials start ``reduction_factor`` times higher has as many
        times fewer of them.
        """
        weights = [self.reduction_factor ** (self.brackets - 1 - b) for b in range(self.brackets)]
        place = zlib.crc32(str(number).encode()) % sum(weights)
        ends = itertools.accumulate(weights)
        return next(bracket for bracket, end in enumerate(ends) if place < end)

    def note(self, number: int, curve: Mapping[int, float], promoted_to: int | None = None) -> None:
        """Notes what a trial has reported.

        Args:
            number: The trial.
            curve: Its values by step.
            promoted_to: The rung that it was promoted to, if it was.
        """
        if promoted_to is not None:
            self._targets[number] = promoted_to
        for rung, level in enumerate(self.levels):
            if rung >= self.bracket(number) and (value := _at(curve, level)) is not None:
                self._values[rung][number] = value

    def is_reached(self, number: int) -> bool:
        """Whether a trial has reached the rung that it trains to, and more is to come."""
        target = self.target(number)
        return target < len(self.levels) - 1 and number in self._values[target]

    def pause(self, number: int) -> None:
        """Makes a trial wait for its promotion."""
        self._paused.add(number)

    def promote(self) -> int | None:
        """Sends the best trial that may be promoted to its next rung.

        Returns:
            The trial, or None if none may.
        """
        found = (self._promotable(rung) for rung in reversed(range(self.highest)))
        number = next((one for one in found if one is not None), None)
        if number is not None:
            self._paused.remove(number)
            self._targets[number] = self.target(number) + 1
        return number

    def promote_to_the_end(self) -> int | None:
        """Sends the best paused trial of the highest rung that has one to the end of its training.

        Returns:
            The trial, or None if no trial waits.
        """
        rungs = reversed(range(len(self.levels)))
        waiting = (n for rung in rungs for n in self.ranking(rung) if n in self._paused)
        number = next(waiting, None)
        if number is not None:
            self._paused.remove(number)
            self._targets[number] = len(self.levels) - 1
        return number

    def end(self, number: int) -> None:
        """Notes that a trial has ended: it waits no longer."""
        self._paused.discard(number)

    def _promotable(self, rung: int) -> int | None:
        ranked = self.ranking(rung)
        for bracket in range(self.brackets):
            mine = [number for number in ranked if self.bracket(number) == bracket]
            best = mine[: len(mine) // self.reduction_factor]
            waiting = (n for n in best if n in self._paused and self.target(n) == rung)
            if (number := next(waiting, None)) is not None:
                return number
        return None

    def ranking(self, rung: int) -> list[int]:
        """Returns the trials that have reached a rung, best first; of equal ones the earlier."""
        values, sign = self._values[rung], -1 if self.maximize else 1
        return sorted(values, key=lambda number: (sign * values[number], number))


@dataclass
class PashaPruner(PromotePruner):
    """The rungs of PASHA: the highest rung grows only while the ranking of the best is unstable.

    Bohdal et al., "PASHA: Efficient HPO and NAS with Progressive Resource Allocation", ICLR 2023.
    It starts with the two lowest rungs. When a trial reaches the highest one and the ranking there
    is not that of the rung below, one more rung opens. Values that differ by less than the noise
    count as equal; the noise is measured on the curves of the highest rung.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        self._curves: dict[int, Mapping[int, float]] = {}
        self.highest = min(self.brackets, len(self.levels) - 1)

    def note(self, number: int, curve: Mapping[int, float], promoted_to: int | None = None) -> None:
        """Notes what a trial has reported; opens a rung if the ranking is unstable."""
        before = len(self._values[self.highest])
        super().note(number, curve, promoted_to)
        self._curves[number] = curve
        is_new = len(self._values[self.highest]) > before
        if is_new and self.highest < len(self.levels) - 1 and not self._is_stable():
            self.highest += 1

    def _is_stable(self) -> bool:
        """Whether the highest rung ranks its trials as the one below, up to noise."""
        top = self.ranking(self.highest)
        below = [number for number in self.ranking(self.highest - 1) if number in set(top)]
        values, noise = self._values[self.highest - 1], self.noise()
        return all(
            abs(values[ours] - values[theirs]) <= noise
            for ours, theirs in zip(top, below, strict=True)
        )

    def noise(self) -> float:
        """Returns the noise of the metric: how far trials lie apart whose curves cross twice.

        Of each two trials of the highest rung whose order changes and changes back, the difference
        at the last step is taken; the result is the 90th percentile of them.
        """
        top = self.ranking(self.highest)
        pairs = itertools.combinations(top, 2)
        found = [self._difference(one, other) for one, other in pairs]
        return _percentile([value for value in found if value is not None])

    def _difference(self, one: int, other: int) -> float | None:
        """Returns how far two curves lie apart at their last common step, if they cross twice."""
        mine, yours = self._curves[one], self._curves[other]
        gaps = [mine[step] - yours[step] for step in sorted(mine.keys() & yours.keys())]
        signs = [gap > 0 for gap in gaps if gap]
        crossings = sum(one != other for one, other in itertools.pairwise(signs))
        return abs(gaps[-1]) if crossings >= 2 else None


def _at(curve: Mapping[int, float], level: int) -> float | None:
    """Returns the value at the first step that reaches a level, if there is one."""
    steps = [step for step in curve if step >= level]
    return curve[min(steps)] if steps else None


def _percentile(values: Sequence[float]) -> float:
    """Returns the 90th percentile, interpolated; 0 of no values."""
    if not values:
        return 0.0
    ranked = sorted(values)
    place = _NOISE * (len(ranked) - 1)
    low = int(place)
    high = min(low + 1, len(ranked) - 1)
    return ranked[low] + (place - low) * (ranked[high] - ranked[low])
