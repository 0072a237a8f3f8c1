"""A Sequential Keras model."""

from __future__ import annotations

import keras
from keras import layers


def build(
    input_shape: list[int], classes: int, hidden: int = 64, dropout: float = 0.2
) -> keras.Model:
    """Builds a model with one hidden layer."""
    return keras.Sequential(
        [
            keras.Input(tuple(input_shape)),
            layers.Flatten(),
            layers.Dense(hidden, activation="relu"),
            layers.Dropout(dropout),
            layers.Dense(classes),
        ]
    )
