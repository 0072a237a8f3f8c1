"""A Keras model with its own ``train_step``, which ``fit`` calls: mixup."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
from keras import layers


class Mixup(keras.Model):
    """Learns from mixed pairs of examples.

    Zhang, Cisse, Dauphin and Lopez-Paz, mixup: Beyond Empirical Risk Minimization, 2018.

    Args:
        classes: The number of classes, and of scores.
        hidden: The width of the hidden layer.
        share: The largest share of the second example.
    """

    def __init__(self, classes: int, hidden: int = 64, share: float = 0.5) -> None:
        super().__init__()
        self.share = share
        self.random = keras.random.SeedGenerator()
        self.flatten = layers.Flatten()
        self.hidden = layers.Dense(hidden, activation="relu")
        self.scores = layers.Dense(classes)

    def call(self, inputs: Any) -> Any:
        """Returns scores [batch, classes]."""
        return self.scores(self.hidden(self.flatten(inputs)))

    def train_step(self, data: Any) -> dict[str, Any]:
        """Mixes each example of a batch with another, and their losses in the same way."""
        inputs, targets = data
        share = keras.random.uniform((), 0.0, self.share, seed=self.random)
        mixed = (1 - share) * inputs + share * inputs[::-1]
        with tf.GradientTape() as tape:
            scores = self(mixed, training=True)
            loss = (1 - share) * self.compute_loss(y=targets, y_pred=scores)
            loss += share * self.compute_loss(y=targets[::-1], y_pred=scores)
            scaled = self.optimizer.scale_loss(loss)
        gradients = tape.gradient(scaled, self.trainable_weights)
        self.optimizer.apply(gradients, self.trainable_weights)
        for metric in self.metrics:
            if metric.name == "loss":
                metric.update_state(loss, sample_weight=tf.shape(targets)[0])
            else:
                metric.update_state(targets, scores)
        return self.get_metrics_result()
