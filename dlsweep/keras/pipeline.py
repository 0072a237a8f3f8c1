"""A ``tf.data`` pipeline over arrays in memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from dlsweep.data.base import Array

#: The order of the examples and, with augmentation, the source positions of their pixels along
#: height and width; see :class:`dlsweep.data.augmentation.Moves`.
Arrangement = tuple[Array, ...]


class Pipeline:
    """Slices arrays into batches, with one operation for each batch.

    Args:
        inputs: Shape [examples, ...], or several such arrays by name.
        targets: Shape [examples, ...].
        size: The number of examples in a batch; the last may be smaller.
        prefetch: The number of batches to read ahead.
        arrangement: The first arrangement; an empty one keeps the given order and images.

    Attributes:
        dataset: Yields (inputs, targets).
    """

    def __init__(
        self,
        inputs: Any,
        targets: Array,
        size: int,
        prefetch: int,
        arrangement: Arrangement,
    ) -> None:
        self._size = size
        with tf.device("CPU"):  # pipelines run there
            self._arrays = tf.nest.map_structure(tf.constant, (inputs, targets))
            self._arrangement = [tf.Variable(array, trainable=False) for array in arrangement]
            self._first = tf.Variable(0, trainable=False, dtype=tf.int64)
        starts = tf.data.Dataset.range(0, len(targets), np.int64(size))
        self.dataset = starts.map(self._batch).prefetch(prefetch)

    def skip(self, done: int) -> None:
        """Makes the next passes skip so many batches."""
        self._first.assign(done * self._size)

    def arrange(self, arrangement: Arrangement) -> None:
        """Sets the arrangement of the next passes."""
        for variable, array in zip(self._arrangement, arrangement, strict=True):
            variable.assign(array)

    def _batch(self, start: Any) -> Any:
        start += self._first
        rows = slice(start, start + self._size)
        if not self._arrangement:
            return tf.nest.map_structure(lambda array: array[rows], self._arrays)
        order, *origins = self._arrangement
        chosen = order[rows]
        inputs, targets = tf.nest.map_structure(
            lambda array: tf.gather(array, chosen), self._arrays
        )
        for axis, origin in zip((-2, -1), origins, strict=False):
            indices = tf.reshape(tf.gather(origin, chosen), (-1, inputs.shape[axis]))
            inputs = tf.gather(inputs, indices, axis=axis, batch_dims=1)
        return inputs, targets
