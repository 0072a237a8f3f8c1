"""The means of a PyTorch training's measures, read from the device seldom."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TypeAlias

import torch
from torch import Tensor

from dlsweep.errors import DataError, Diverged
from dlsweep.trainers.early_stopping import Progress

#: Scalars by name.
Measures: TypeAlias = Mapping[str, Tensor]

#: After how many batches their measures are read; on a GPU, reading waits for them.
_READ_EVERY = 50


class Means:
    """The means of measures over an epoch, each batch weighted by its size.

    Args:
        part: Of the data, which is the first part of their names: ``train``, ``val`` or ``test``.
        begun: How far an epoch is that was saved in the middle.
    """

    def __init__(self, part: str, begun: Progress | None = None) -> None:
        self._part = part
        self._pending: list[tuple[dict[str, Tensor], int, int]] = []
        self._sums = dict(begun.sums) if begun else {}
        self._examples = begun.examples if begun else 0

    def add(self, measures: Measures, size: int, step: int) -> None:
        """Adds a batch's scalars, of so many examples, at a batch of the training."""
        detached = {name: value.detach() for name, value in measures.items()}
        self._pending.append((detached, size, step))
        if len(self._pending) == _READ_EVERY:
            self._collect()

    def keep(self, progress: Progress) -> None:
        """Notes down how far they are."""
        self._collect()
        progress.sums, progress.examples = dict(self._sums), self._examples

    def read(self) -> dict[str, float]:
        """The means as floats, by name.

        Raises:
            DataError: If there was no batch.
            Diverged: If a loss is NaN or infinite.
        """
        self._collect()
        if not self._examples:
            raise DataError(f"data: Received no batch to measure {self._part}/loss on.")
        return {f"{self._part}/{name}": sum_ / self._examples for name, sum_ in self._sums.items()}

    def _collect(self) -> None:
        for name in self._pending[0][0] if self._pending else ():
            values = torch.stack([measures[name] for measures, _, _ in self._pending]).tolist()
            for value, (_, size, step) in zip(values, self._pending, strict=True):
                if name == "loss" and not math.isfinite(value):
                    raise Diverged(f"{self._part}/loss", value, step)
                self._sums[name] = self._sums.get(name, 0.0) + value * size
        self._examples += sum(size for _, size, _ in self._pending)
        self._pending.clear()
