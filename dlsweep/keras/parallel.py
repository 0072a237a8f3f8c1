"""Keras on several devices, with TensorFlow's MirroredStrategy.

Keras divides each batch between the replicas, but averages their losses and clips their gradients
as if their shares were equal. Here both are those of the whole batch, so the number of replicas
changes a training only by rounding errors. Keras has no public way to change how it sums, clips and
builds; without the private names below, the replicas would train differently from one device.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from dlsweep.keras.batch_norm import batch_norms


@functools.cache  # one strategy for each process: two would wait for each other
def mirrored(count: int, on_gpus: bool) -> tf.distribute.Strategy:
    """Returns the strategy for so many GPUs or virtual CPUs; call it before TensorFlow starts."""
    if not on_gpus:
        (cpu,) = tf.config.list_physical_devices("CPU")
        parts = [tf.config.LogicalDeviceConfiguration()] * count
        tf.config.set_logical_device_configuration(cpu, parts)
    kind = "GPU" if on_gpus else "CPU"
    return tf.distribute.MirroredStrategy([f"{kind}:{number}" for number in range(count)])


class WholeBatchLoss(keras.losses.Loss):
    """A loss over a replica's share; the gradients sum up to those of the whole batch.

    Its value is the mean over the share. Keras's metrics weight it by the share's size.

    Args:
        loss: A loss of targets and outputs: a mean over the batch, or a value for each example.
    """

    def __init__(self, loss: Callable[..., Any]) -> None:
        super().__init__(name=getattr(loss, "name", None))
        self._loss = loss

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Returns the mean over a replica's share."""
        if isinstance(self._loss, keras.losses.Loss):
            mean = self._loss(y_true, y_pred, sample_weight)
        else:
            mean = keras.ops.mean(self._loss(y_true, y_pred))
        context = tf.distribute.get_replica_context()
        if context is None:  # Keras infers shapes
            return mean
        size = tf.cast(tf.shape(y_pred)[0], mean.dtype)
        whole = context.all_reduce(tf.distribute.ReduceOp.SUM, size)
        mean = tf.where(size > 0, mean, 0)
        share = size * context.num_replicas_in_sync / whole
        return share * mean + tf.stop_gradient((1 - share) * mean)


def synchronise(model: keras.Model, batch: Any) -> None:
    """Makes a compiled model's replicas train like one device.

    Args:
        model: Compiled within the strategy's scope, with a :class:`WholeBatchLoss`.
        batch: The shapes and types of a batch, as symbolic tensors.
    """
    for layer in batch_norms(model):
        layer.synchronized = True
    model._symbolic_build(data_batch=batch)
    model._maybe_symbolic_build = lambda **_: None  # a first batch may be uneven
    clip = model.optimizer._clip_gradients
    model.optimizer._clip_gradients = lambda gradients: clip(_summed(gradients))
    model.optimizer._all_reduce_sum_gradients = list  # already summed


def _summed(gradients: Sequence[Any]) -> Any:
    context = tf.distribute.get_replica_context()
    return context.all_reduce(tf.distribute.ReduceOp.SUM, list(gradients))
