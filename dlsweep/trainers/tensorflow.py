"""What Keras leaves to TensorFlow: threads, kernels, and which GPUs it takes and how."""

from __future__ import annotations

import tensorflow as tf


def setup(seed: int, deterministic: bool, threads: int | None) -> None:  # noqa: ARG001
    """Prepares a trial's process; see :func:`dlsweep.trainers.keras.setup`."""
    if threads is not None:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    if deterministic:
        tf.config.experimental.enable_op_determinism()
    for gpu in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(gpu, True)


def use_gpu(wanted: bool) -> bool:
    """Whether there is a GPU to use; one that is not wanted is not touched."""
    if not wanted:
        tf.config.set_visible_devices([], "GPU")
    return bool(tf.config.get_visible_devices("GPU"))
