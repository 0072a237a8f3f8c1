"""Metrics of values as targets for Keras: exact over a whole split, in the targets' own units."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from dlsweep.trainers.r2 import CONSTANT


class MeanAbsoluteError(keras.metrics.Mean):
    """The mean absolute error, ``mae``, in the targets' own units.

    Args:
        target_std: What a difference is multiplied by; broadcasts to one target.
    """

    def __init__(self, target_std: Any = 1.0, name: str = "mae", dtype: Any = None) -> None:
        super().__init__(name, dtype)
        self._target_std = np.asarray(target_std, np.float32)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Adds a batch: targets and outputs of equal shapes."""
        errors = ops.absolute(ops.cast(y_pred, "float32") - ops.cast(y_true, "float32"))
        in_units = errors * ops.convert_to_tensor(self._target_std)
        flat = ops.reshape(in_units, (ops.shape(errors)[0], -1))
        super().update_state(ops.mean(flat, axis=-1), sample_weight)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments, to rebuild it from a file."""
        return {**super().get_config(), "target_std": self._target_std.tolist()}


class R2(keras.metrics.Metric):
    """R², like scikit-learn's ``r2_score``; see :func:`dlsweep.trainers.r2.r2_score`.

    Keras's own ``R2Score`` adds up squares in single precision, which is not exact.

    Args:
        outputs: The number of values of one target.
    """

    def __init__(self, outputs: int, name: str = "r2", dtype: Any = "float64") -> None:
        super().__init__(dtype, name)
        self._outputs = outputs
        self._sums = self.add_variable((3, outputs), "zeros", name="sums")
        self._examples = self.add_variable((), "zeros", name="examples")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:  # noqa: ARG002
        """Adds a batch: targets and outputs of shape [batch] or [batch, outputs]."""
        shape = (-1, self._outputs)
        values = ops.cast(ops.reshape(y_true, shape), "float64")
        errors = ops.cast(ops.reshape(y_pred, shape), "float64") - values
        terms = [ops.sum(one, axis=0) for one in (errors * errors, values, values * values)]
        self._sums.assign_add(ops.stack(terms))
        self._examples.assign_add(ops.cast(ops.shape(values)[0], "float64"))

    def result(self) -> Any:
        """Returns R² of all batches."""
        terms = ops.divide_no_nan(self._sums.value, self._examples.value)
        residual, mean, squares = (terms[number] for number in range(3))
        variance = squares - mean * mean
        varies = variance > CONSTANT * squares
        scores = 1 - residual / ops.where(varies, variance, ops.ones_like(variance))
        constant = ops.cast(ops.equal(residual, 0.0), "float64")
        return ops.mean(ops.where(varies, scores, constant))

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments, to rebuild it from a file."""
        return {**super().get_config(), "outputs": self._outputs}
