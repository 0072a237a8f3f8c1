"""A Keras model as a subclass, which knows whether it trains."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers


class NoisyMLP(keras.Model):
    """A model with one hidden layer, and noisy inputs in training.

    Args:
        classes: The number of classes, and of scores.
        hidden: The width of the hidden layer.
        noise: The standard deviation of the noise.
    """

    def __init__(self, classes: int, hidden: int = 64, noise: float = 0.1) -> None:
        super().__init__()
        self.noise = noise
        self.random = keras.random.SeedGenerator()
        self.flatten = layers.Flatten()
        self.hidden = layers.Dense(hidden, activation="relu")
        self.scores = layers.Dense(classes)

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Returns scores [batch, classes]."""
        flat = self.flatten(inputs)
        if training:
            flat = flat + self.noise * keras.random.normal(keras.ops.shape(flat), seed=self.random)
        return self.scores(self.hidden(flat))
