"""Means of metrics over an epoch, read from the device only every few batches."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TypeAlias

import torch
from torch import Tensor

from dlsweep.errors import DataError, Diverged
from dlsweep.torch.parallel import Alone
from dlsweep.trainers.early_stopping import Progress

#: Scalars by name.
Measures: TypeAlias = Mapping[str, Tensor]

#: The number of batches between two reads; reading from a GPU waits for it.
_READ_EVERY = 50


class Means:
    """Means of metrics over an epoch, each batch weighted by its size.

    Args:
        part: The part of the data, a prefix of the names: ``train``, ``val`` or ``test``.
        parallel: The processes that train together.
        begun: The progress of an epoch that was saved before its end.
    """

    def __init__(self, part: str, parallel: Alone, begun: Progress | None = None) -> None:
        self._part = part
        self._parallel = parallel
        self._pending: list[tuple[dict[str, Tensor], int, int]] = []
        self._sums: dict[str, float] = {}
        self._examples = 0
        if begun:
            self._take(begun)

    def add(self, measures: Measures, size: int, step: int) -> None:
        """Adds a batch's scalars, with its number of examples and its number in the training."""
        detached = {name: value.detach() for name, value in measures.items()}
        self._pending.append((detached, size, step))
        if len(self._pending) == _READ_EVERY:
            self._collect()

    def keep(self, progress: Progress) -> None:
        """Stores the sums so far in the progress."""
        self._collect()
        progress.sums, progress.examples = self._total()
        self._take(progress)

    def read(self) -> dict[str, float]:
        """Returns the means as floats, by name.

        Raises:
            DataError: If there was no batch.
            Diverged: If a loss is NaN or infinite.
        """
        self._collect()
        sums, examples = self._total()
        if not examples:
            raise DataError(f"data: Received no batch to measure {self._part}/loss on.")
        return {f"{self._part}/{name}": sum_ / examples for name, sum_ in sums.items()}

    def _take(self, known: Progress) -> None:
        """Continues from saved sums of all processes; rank 0 only, so they count once."""
        is_first = self._parallel.part.rank == 0
        self._sums = dict(known.sums) if is_first else dict.fromkeys(known.sums, 0.0)
        self._examples = known.examples if is_first else 0

    def _total(self) -> tuple[dict[str, float], int]:
        """Returns the sums and the numbers of examples of all processes."""
        *sums, examples = self._parallel.sum([*self._sums.values(), self._examples])
        return dict(zip(self._sums, sums, strict=True)), int(examples)

    def _collect(self) -> None:
        for name in self._pending[0][0] if self._pending else ():
            values = torch.stack([measures[name] for measures, _, _ in self._pending]).tolist()
            for value, (_, size, step) in zip(values, self._pending, strict=True):
                if name == "loss" and not math.isfinite(value):
                    raise Diverged(f"{self._part}/loss", value, step)
                self._sums[name] = self._sums.get(name, 0.0) + value * size
        self._examples += sum(size for _, size, _ in self._pending)
        self._pending.clear()
