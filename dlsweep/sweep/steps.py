"""The values of a range such as ``range(0,1,0.1)``, computed one by one and never all at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from hydra.core.override_parser.types import RangeSweep


@dataclass(frozen=True)
class Steps:
    """Evenly spaced values, in Hydra's order.

    Attributes:
        start: The first value.
        step: The difference between two values; not 0.
        count: The number of values.
        converts: Applied to each value.
    """

    start: int | Decimal
    step: int | Decimal
    count: int
    converts: tuple[Callable[[Any], Any], ...] = ()

    @classmethod
    def of(cls, sweep: RangeSweep) -> Steps:
        """Returns the values of a range; those of floats as decimals, whose sums do not drift."""
        bounds: list[Any] = [sweep.start, sweep.stop, sweep.step]
        if not all(isinstance(one, int) for one in bounds):
            bounds = [Decimal(str(one)) for one in bounds]
        start, stop, step = bounds
        gap = stop - start
        count = -(-gap // step) if isinstance(gap, int) else math.ceil(gap / step)
        # Hydra 1.4 casts values, 1.3 the bounds.
        converts = tuple(getattr(sweep, "transformers", ()))
        return cls(start, step, max(0, count), converts)

    def __getitem__(self, index: int) -> float:
        value: Any = self.start + index * self.step
        value = float(value) if isinstance(value, Decimal) else value
        for convert in self.converts:
            value = convert(value)
        return value  # type: ignore[no-any-return]

    def __iter__(self) -> Iterator[float]:
        return (self[index] for index in range(self.count))

    def nearest(self, sample: float) -> float:
        """Returns the value nearest to a sample; the earlier of two equally near ones."""
        place = math.floor((sample - float(self.start)) / float(self.step))
        near = {min(max(place + turn, 0), self.count - 1) for turn in (-1, 0, 1, 2)}
        return min((self[index] for index in sorted(near)), key=lambda value: abs(value - sample))
