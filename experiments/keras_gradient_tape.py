"""A custom training loop in TensorFlow; ``epochs`` handles the ends of epochs."""

from __future__ import annotations

import keras
import tensorflow as tf

from dlsweep.keras import Epochs, KerasData, KerasTrainer


class TapeTrainer(KerasTrainer):
    """Trains with a ``GradientTape``.

    The arguments are those of :class:`KerasTrainer`.
    """

    def train(self, model: keras.Model, data: KerasData, epochs: Epochs) -> None:
        """Trains the remaining epochs."""
        means = {
            name: keras.metrics.Mean() if name.endswith("loss") else _accuracy()
            for name in ("train/loss", "train/accuracy", "val/loss", "val/accuracy")
        }

        @tf.function(reduce_retracing=True)
        def step(inputs: tf.Tensor, targets: tf.Tensor) -> None:
            with tf.GradientTape() as tape:
                scores = model(inputs, training=True)
                loss = model.compute_loss(y=targets, y_pred=scores)
            gradients = tape.gradient(loss, model.trainable_weights)
            model.optimizer.apply(gradients, model.trainable_weights)
            means["train/loss"].update_state(loss, tf.shape(targets)[0])
            means["train/accuracy"].update_state(targets, scores)

        @tf.function(reduce_retracing=True)
        def evaluate(inputs: tf.Tensor, targets: tf.Tensor) -> None:
            scores = model(inputs, training=False)
            loss = model.compute_loss(y=targets, y_pred=scores)
            means["val/loss"].update_state(loss, tf.shape(targets)[0])
            means["val/accuracy"].update_state(targets, scores)

        for _ in epochs:
            for inputs, targets in data.train:
                step(inputs, targets)
                epochs.progress.batches += 1
            for inputs, targets in data.validation:
                evaluate(inputs, targets)
            epochs.end({name: float(mean.result()) for name, mean in means.items()})
            for mean in means.values():
                mean.reset_state()


def _accuracy() -> keras.Metric:
    return keras.metrics.SparseCategoricalAccuracy()
