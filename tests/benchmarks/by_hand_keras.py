"""What a careful person writes without dlsweep, in Keras: a model, and ``fit``."""

from __future__ import annotations

from pathlib import Path

import keras
import tensorflow as tf

from dlsweep.data import Data
from dlsweep.keras.models import MLP


def use_one_thread() -> None:
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)


def train(
    data: Data,
    epochs: int,
    batch_size: int = 128,
    hidden: int | list[int] = 128,
    dropout: float = 0.2,
    lr: float = 1e-3,
    seed: int = 0,
    folder: Path | None = None,
) -> None:
    """Trains an MLP, saving each epoch if there is a folder."""
    keras.utils.set_random_seed(seed)
    model = MLP([1, 28, 28], 10, hidden=hidden, dropout=dropout)
    model.compile(
        keras.optimizers.Adam(lr),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(
        data.normalise(data.train.inputs),
        data.train.targets,
        batch_size,
        epochs,
        verbose=0,
        validation_data=(data.normalise(data.validation.inputs), data.validation.targets),
        callbacks=[keras.callbacks.ModelCheckpoint(folder / "model.keras")] if folder else [],
    )
