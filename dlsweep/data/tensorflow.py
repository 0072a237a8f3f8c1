"""A TensorFlow input pipeline over arrays in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from dlsweep.data.base import Array


def sliced(
    inputs: Array, targets: Array, size: int, order: Array | None
) -> tuple[Callable[[Array], None], tf.data.Dataset]:
    """Cuts arrays into batches; one operation a batch, and none an example.

    Args:
        inputs: Shape [examples, ...].
        targets: Shape [examples, ...].
        size: The examples of a batch; the last may be smaller.
        order: The positions in their order; None for ascending ones.

    Returns:
        What sets another order, for passes that begin later; and the pipeline.
    """
    with tf.device("CPU"):  # where pipelines run
        arrays = tf.constant(inputs), tf.constant(targets)
        positions = None if order is None else tf.Variable(order, trainable=False)

    def batch(start: Any) -> tuple[tf.Tensor, tf.Tensor]:
        rows = slice(start, start + size)
        if positions is None:
            return arrays[0][rows], arrays[1][rows]
        chosen = positions[rows]
        return tf.gather(arrays[0], chosen), tf.gather(arrays[1], chosen)

    def set_order(other: Array) -> None:
        assert positions is not None
        positions.assign(other)

    starts = tf.data.Dataset.range(0, len(targets), np.int64(size))
    return set_order, starts.map(batch).prefetch(tf.data.AUTOTUNE)
