"""Builds Keras models on symbolic inputs, with the shapes of the data."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import keras

from dlsweep.data.base import each
from dlsweep.errors import DataError
from dlsweep.keras.batches import KerasData
from dlsweep.run.run import Run

_ESCAPES = re.compile(r"\x1b\[\d+m")  # bold type in Keras's messages


def build(model: keras.Model, data: KerasData, loss: object) -> None:
    """Builds the model on symbolic inputs; raises DataError if the data does not fit it."""
    inputs, *targets = data.train.spec()
    try:
        outputs = model(inputs)
    except ValueError as error:
        reason = max(_ESCAPES.sub("", str(error)).split("\n\n"), key=lambda part: "shape" in part)
        raise DataError(
            f"data: Received inputs of shape {shapes(inputs)}, which do not fit the model "
            f"{model.name!r}.\nExpected what it takes: {reason}"
        ) from None
    if loss == "mse" and shapes([outputs]) != shapes(targets):
        raise DataError(
            f"training.loss: Received outputs of shape {shapes(outputs)} and targets of shape "
            f"{shapes(targets)[0]}. Expected equal shapes for 'mse'."
        )
    labels = data.record.get("classes", 0)
    if loss == "cross_entropy" and labels > (classes := outputs.shape[-1]):
        raise DataError(
            f"data: Received labels up to {labels - 1}. The model has {classes} classes, "
            f"0 to {classes - 1}."
        )


def shapes(tensors: Any) -> Any:
    """Returns the shapes of tensors without the batch dimension."""
    return keras.tree.map_structure(lambda tensor: list(tensor.shape[1:]), tensors)


def symbolic_inputs(run: Run) -> Any:
    """Returns symbolic inputs, of the shapes that a run has recorded."""
    record = json.loads((run.dir.path / "data.json").read_text())
    return each(record["input_shape"], symbolic)


def symbolic(shape: Sequence[int]) -> keras.KerasTensor:
    """Returns a symbolic tensor of inputs of a shape, with any batch size."""
    return keras.KerasTensor((None, *shape))
