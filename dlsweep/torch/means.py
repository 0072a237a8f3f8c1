"""Means of metrics over an epoch, read from the device only every few batches."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from dlsweep.data.base import Array
from dlsweep.errors import DataError, Diverged
from dlsweep.torch.parallel import Alone
from dlsweep.trainers.early_stopping import Progress
from dlsweep.trainers.r2 import r2_score

#: Means over a batch by name: scalars, or what :func:`r2_terms` returns.
Measures: TypeAlias = Mapping[str, Tensor]

#: The number of batches between two reads; reading from a GPU waits for it.
_READ_EVERY = 50


def r2_terms(outputs: Tensor, targets: Tensor) -> Tensor:
    """Returns the terms of R² over a batch; :class:`Means` makes R² of the whole split from them.

    Args:
        outputs: Shape [batch] or [batch, outputs].
        targets: The same shape.

    Returns:
        Means of squared errors, targets and squared targets, [3, outputs] as float64.
    """
    values = targets.detach().double().reshape(len(targets), -1)
    errors = outputs.detach().double().reshape(len(targets), -1) - values
    return torch.stack([(errors**2).mean(0), values.mean(0), (values**2).mean(0)])


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
        self._sums: dict[str, Array] = {}
        self._examples = 0
        if begun:
            self._take(begun)

    def add(self, measures: Measures, size: int, step: int) -> None:
        """Adds a batch's means, with its number of examples and its number in the training."""
        detached = {name: value.detach() for name, value in measures.items()}
        self._pending.append((detached, size, step))
        if len(self._pending) == _READ_EVERY:
            self._collect()

    def keep(self, progress: Progress) -> None:
        """Stores the sums so far in the progress."""
        self._collect()
        sums, progress.examples = self._total()
        progress.sums = {name: total.tolist() for name, total in sums.items()}
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
        means = {name: total / examples for name, total in sums.items()}
        return {
            f"{self._part}/{name}": r2_score(mean) if mean.ndim else float(mean)
            for name, mean in means.items()
        }

    def _take(self, known: Progress) -> None:
        """Continues from saved sums of all processes; rank 0 only, so they count once."""
        is_first = self._parallel.part.rank == 0
        self._sums = {name: np.array(total) * is_first for name, total in known.sums.items()}
        self._examples = known.examples if is_first else 0

    def _total(self) -> tuple[dict[str, Array], int]:
        """Returns the sums and the numbers of examples of all processes."""
        flat = [value for total in self._sums.values() for value in total.ravel().tolist()]
        *values, examples = self._parallel.sum([*flat, self._examples])
        ends = np.cumsum([total.size for total in self._sums.values()])
        parts = np.split(np.array(values), ends[:-1]) if self._sums else []
        return {
            name: part.reshape(total.shape)
            for (name, total), part in zip(self._sums.items(), parts, strict=True)
        }, int(examples)

    def _collect(self) -> None:
        for name in self._pending[0][0] if self._pending else ():
            stacked = torch.stack([measures[name] for measures, _, _ in self._pending])
            values = stacked.double().cpu().numpy()
            for value, (_, size, step) in zip(values, self._pending, strict=True):
                if name == "loss" and not math.isfinite(value):
                    raise Diverged(f"{self._part}/loss", float(value), step)
                self._sums[name] = self._sums.get(name, 0.0) + np.asarray(value * size)
        self._examples += sum(size for _, size, _ in self._pending)
        self._pending.clear()
