"""A Keras model in the third way, a class of its own that knows whether it trains."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers


class NoisyMLP(keras.Model):
    """One hidden layer behind inputs that are noisy in training.

    Args:
        classes: How many scores to return.
        hidden: The width of the hidden layer.
        noise: The standard deviation of what is added to each input in training.
    """

    def __init__(self, classes: int, hidden: int = 64, noise: float = 0.1) -> None:
        super().__init__()
        self.noise = noise
        self.random = keras.random.SeedGenerator()
        self.flatten = layers.Flatten()
        self.hidden = layers.Dense(hidden, activation="relu")
        self.scores = layers.Dense(classes)

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Scores of shape [batch, classes]."""
        flat = self.flatten(inputs)
        if training:
            flat = flat + self.noise * keras.random.normal(keras.ops.shape(flat), seed=self.random)
        return self.scores(self.hidden(flat))
