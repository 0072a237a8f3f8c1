"""How well a trained model predicts: its scores on a whole split, and accuracy or mean error."""

from __future__ import annotations

from collections.abc import Mapping
from operator import itemgetter
from typing import Any, Literal, TypeAlias

import numpy as np

from dlsweep.data.base import Array, each
from dlsweep.trainers.base import Trainer
from dlsweep.trainers.exporting import only_output

#: A measure of quality.
Measure: TypeAlias = Literal["accuracy", "mean_absolute_error"]
#: The number of examples to predict at a time.
_BATCH = 256


def predict(trainer: Trainer, model: Any, inputs: Any) -> Array:
    """Predicts the scores of all examples, a few hundred at a time.

    Args:
        trainer: The trainer of the model.
        model: The model.
        inputs: What the model takes: an array [examples, ...], or several by name.

    Returns:
        The scores, shape [examples, ...].

    Raises:
        ExportError: If the model has several outputs.
    """
    first = next(iter(inputs.values())) if isinstance(inputs, Mapping) else inputs
    parts = []
    for start in range(0, len(first), _BATCH):
        rows = slice(start, start + _BATCH)
        found = trainer.predict(model, each(inputs, itemgetter(rows)))
        parts.append(only_output(found, np.ndarray))
    return np.concatenate(parts)


def measure_for(is_classifier: bool, scores: Array, targets: Array) -> Measure | None:
    """Returns the measure for a model; None if its scores cannot be compared with the targets.

    Args:
        is_classifier: Whether the scores are known to be one for each class.
        scores: Shape [examples, ...].
        targets: Shape [examples, ...].
    """
    if is_classifier and scores.ndim == 2 and targets.ndim == 1 and targets.dtype.kind in "iu":
        return "accuracy"
    return "mean_absolute_error" if scores.shape == targets.shape else None


def quality(measure: Measure, scores: Array, targets: Array) -> float:
    """Returns the accuracy, or the mean absolute error, of scores."""
    each_one = scores.argmax(1) == targets if measure == "accuracy" else np.abs(scores - targets)
    return float(each_one.mean())
