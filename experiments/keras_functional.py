"""A functional Keras model with two inputs of 32 and 64 features."""

from __future__ import annotations

import keras
from keras import layers


def build(
    input_shape: dict[str, list[int]], classes: int, units: int = 32, dropout: float = 0.2
) -> keras.Model:
    """A branch for each input."""
    left = keras.Input(tuple(input_shape["left"]), name="left")
    right = keras.Input(tuple(input_shape["right"]), name="right")
    branches = [layers.Dense(units, activation="relu")(each) for each in (left, right)]
    joined = layers.Dropout(dropout)(layers.Concatenate()(branches))
    return keras.Model({"left": left, "right": right}, layers.Dense(classes)(joined))
