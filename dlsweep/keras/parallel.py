"""One Keras model on several devices, by TensorFlow's MirroredStrategy.

Keras divides each batch between the replicas, but averages their losses, and clips their
gradients, as if their shares were equal. Here both are those of the whole batch, so that the
number of replicas changes a training by rounding errors alone.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf


@functools.cache  # one strategy a process: another's collectives would wait for this one's
def mirrored(count: int, on_gpus: bool) -> tf.distribute.Strategy:
    """The strategy for so many GPUs or parts of a CPU; made before TensorFlow's first step."""
    if not on_gpus:
        (cpu,) = tf.config.list_physical_devices("CPU")
        parts = [tf.config.LogicalDeviceConfiguration()] * count
        tf.config.set_logical_device_configuration(cpu, parts)
    kind = "GPU" if on_gpus else "CPU"
    return tf.distribute.MirroredStrategy([f"{kind}:{number}" for number in range(count)])


class WholeBatchLoss(keras.losses.Loss):
    """A loss over a replica's share, whose gradients add up to those over the whole batch.

    Its value stays the mean over the share, which Keras's metrics weigh by the share's size.

    Args:
        loss: Of targets and outputs; a mean over the batch, or a value for each example.
    """

    def __init__(self, loss: Callable[..., Any]) -> None:
        super().__init__(name=getattr(loss, "name", None))
        self._loss = loss

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """The mean over a replica's share."""
        if isinstance(self._loss, keras.losses.Loss):
            mean = self._loss(y_true, y_pred, sample_weight)
        else:
            mean = keras.ops.mean(self._loss(y_true, y_pred))
        context = tf.distribute.get_replica_context()
        if context is None:  # Keras looks at the shapes
            return mean
        size = tf.cast(tf.shape(y_pred)[0], mean.dtype)
        whole = context.all_reduce(tf.distribute.ReduceOp.SUM, size)
        mean = tf.where(size > 0, mean, 0)
        share = size * context.num_replicas_in_sync / whole
        return share * mean + tf.stop_gradient((1 - share) * mean)


def synchronise(model: keras.Model, batch: Any) -> None:
    """Has a compiled model's replicas train as one.

    Args:
        model: Compiled within the strategy's scope, with a :class:`WholeBatchLoss`.
        batch: The shapes and types of a batch, as symbolic tensors.
    """
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = True
    model._symbolic_build(data_batch=batch)
    model._maybe_symbolic_build = lambda **_: None  # on a first batch, which need not be even
    clip = model.optimizer._clip_gradients
    model.optimizer._clip_gradients = lambda gradients: clip(_summed(gradients))
    model.optimizer._all_reduce_sum_gradients = list  # done


def _summed(gradients: Sequence[Any]) -> Any:
    context = tf.distribute.get_replica_context()
    return context.all_reduce(tf.distribute.ReduceOp.SUM, list(gradients))
