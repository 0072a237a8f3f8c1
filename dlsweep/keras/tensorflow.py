"""The TensorFlow backend of Keras: threads, deterministic kernels, GPUs and their memory."""

from __future__ import annotations

import os
from pathlib import Path

import keras
import tensorflow as tf

from dlsweep.errors import ConfigError

#: The environment variable with the GPU memory for TensorFlow; see ``devices.tf_memory``.
MEMORY_VARIABLE = "DLSWEEP_TF_MEMORY"


def setup(seed: int, deterministic: bool, threads: int | None, debug: bool) -> None:  # noqa: ARG001
    """Sets up a trial's process; see :func:`dlsweep.keras.setup`.

    Raises:
        ConfigError: If the memory is neither ``growth`` nor a number of megabytes.
    """
    memory = os.environ.get(MEMORY_VARIABLE, "growth")
    if memory != "growth" and not (memory.isdigit() and int(memory) > 0):
        raise ConfigError(
            f"devices.tf_memory: Received {memory!r}. Expected 'growth', or a number of megabytes."
        )
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
        _limit(gpu, memory)


def _limit(gpu: tf.config.PhysicalDevice, memory: str) -> None:
    if memory == "growth":
        tf.config.experimental.set_memory_growth(gpu, True)
    else:
        limit = tf.config.LogicalDeviceConfiguration(memory_limit=int(memory))
        tf.config.set_logical_device_configuration(gpu, [limit])


def use_gpu(wanted: bool) -> bool:
    """Whether there is a GPU to use; hides GPUs if they are not wanted."""
    if not wanted:
        tf.config.set_visible_devices([], "GPU")
    return bool(tf.config.get_visible_devices("GPU"))


def profiler(folder: Path, first: int, last: int) -> keras.callbacks.Callback:
    """Returns a callback that traces batches for ``tensorboard --logdir <run>/profile``."""
    return keras.callbacks.TensorBoard(
        folder, profile_batch=(first, last), write_graph=False, update_freq="epoch"
    )
