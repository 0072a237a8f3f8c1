"""Stochastic weight averaging for Keras: the mean of the weights at the ends of epochs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np


class AveragedModel:
    """Stochastic weight averaging, like ``torch.optim.swa_utils.AveragedModel`` with buffers.

    Izmailov et al., Averaging weights leads to wider optima and better generalization, 2018. Here,
    batch norm's statistics are averaged as well, in place of another pass over the data.

    Args:
        model: The built model.

    Attributes:
        n_averaged: The number of epochs in the mean.
    """

    def __init__(self, model: keras.Model) -> None:
        self.n_averaged = 0
        self._model = model
        self._mean: list[np.ndarray[Any, Any]] = []

    def update_parameters(self) -> None:
        """Adds the model's current weights to the mean."""
        now = self._now()
        self._mean = [
            np.asarray(mean + (one - mean) / (self.n_averaged + 1), one.dtype)
            for mean, one in zip(self._mean or now, now, strict=True)
        ]
        self.n_averaged += 1

    @contextlib.contextmanager
    def swapped(self) -> Iterator[None]:
        """A context in which the model has the mean weights, if there are any yet."""
        own = self._now() if self.n_averaged else []
        self._set(self._mean)
        try:
            yield
        finally:
            self._set(own)

    def trained(self) -> dict[str, np.ndarray[Any, Any]]:
        """Returns the current weights for a checkpoint that contains the mean, if there is one."""
        own = self._now() if self.n_averaged else []
        return {f"trained/{number:04d}": one for number, one in enumerate(own)}

    def restore(self, n_averaged: int, trained: Mapping[str, np.ndarray[Any, Any]]) -> None:
        """Restores a checkpoint; the model has its mean weights now."""
        self.n_averaged = n_averaged
        if n_averaged:
            self._mean = self._now()
            self._set([trained[name] for name in sorted(trained)])

    def _now(self) -> list[np.ndarray[Any, Any]]:
        return [np.array(weight.numpy()) for weight in self._model.weights]

    def _set(self, values: list[np.ndarray[Any, Any]]) -> None:
        for weight, value in zip(self._model.weights, values, strict=False):
            weight.assign(value)
