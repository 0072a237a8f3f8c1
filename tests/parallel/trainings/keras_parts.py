"""What the config names in tests of Keras."""

from __future__ import annotations

import keras

from dlsweep.keras.trainer import KerasTrainer
from dlsweep.trainers.callbacks import Callback


def net() -> keras.Model:
    """Batch norm, whose statistics must be those of the whole batch."""
    return keras.Sequential(
        [
            keras.Input((2,)),
            keras.layers.Dense(16, "tanh"),
            keras.layers.BatchNormalization(),
            keras.layers.Dense(3),
        ]
    )


class Model(keras.Model):
    """A step of its own."""

    def train_step(self, data):
        return super().train_step(data)


def with_a_step() -> keras.Model:
    inputs = keras.Input((2,))
    return Model(inputs, keras.layers.Dense(3)(inputs))


class Loop(KerasTrainer):
    """A loop of its own."""

    def train(self, model, data, epochs):
        super().train(model, data, epochs)


class StopBehind(Callback):
    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_epoch_end(self, epoch, metrics):
        if epoch == self.epoch:
            self.run.stop("preempted")
