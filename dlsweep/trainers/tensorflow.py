"""What Keras leaves to TensorFlow: threads, kernels, and which GPUs it takes and how."""

from __future__ import annotations

from pathlib import Path

import keras
import tensorflow as tf


def setup(seed: int, deterministic: bool, threads: int | None, debug: bool) -> None:  # noqa: ARG001
    """Prepares a trial's process; see :func:`dlsweep.trainers.keras.setup`."""
    if threads is not None:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    if deterministic:
        tf.config.experimental.enable_op_determinism()
    if debug:
        tf.config.run_functions_eagerly(True)
        tf.data.experimental.enable_debug_mode()
        tf.debugging.enable_check_numerics()
    for gpu in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(gpu, True)


def use_gpu(wanted: bool) -> bool:
    """Whether there is a GPU to use; one that is not wanted is not touched."""
    if not wanted:
        tf.config.set_visible_devices([], "GPU")
    return bool(tf.config.get_visible_devices("GPU"))


def profiler(folder: Path, first: int, last: int) -> keras.callbacks.Callback:
    """Traces batches, for TensorBoard's profile page: ``tensorboard --logdir <run>/profile``."""
    return keras.callbacks.TensorBoard(
        folder, profile_batch=(first, last), write_graph=False, update_freq="epoch"
    )
