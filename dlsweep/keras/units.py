"""Converts the outputs of a Keras model from standardized targets to their own units."""

from __future__ import annotations

from typing import Any

import keras

from dlsweep.data.base import Array, each


def in_own_units(model: keras.Model, inputs: Any, mean: Array, std: Array) -> keras.Model:
    """Returns a model of standardized targets with outputs in the targets' own units.

    Args:
        model: The model.
        inputs: Its inputs as symbolic tensors: one, or several by name.
        mean: The mean of the targets; broadcasts to one output.
        std: Their standard deviation, likewise.
    """
    given = each(inputs, lambda one: keras.Input(batch_shape=one.shape, dtype=one.dtype))
    scale = keras.layers.Rescaling(std.tolist(), mean.tolist(), dtype="float32")
    return keras.Model(given, scale(model(given)), name=f"{model.name}_in_own_units")
