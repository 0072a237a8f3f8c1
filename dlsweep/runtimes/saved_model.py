"""Runs a SavedModel in a session of TensorFlow 1, as TensorFlow Serving does."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from dlsweep.errors import ExportError
from dlsweep.runtimes.base import InputError, Signature, Tensor

#: The initializer of tables; it has no inputs, and nobody calls it.
_INITIALIZER = "__saved_model_init_op"


class SavedModel:
    """A SavedModel; also see :class:`dlsweep.runtimes.base.ExportedModel`.

    A session refuses wrong shapes, which ``tf.saved_model.load`` would broadcast.

    Args:
        path: The folder with ``saved_model.pb``.

    Raises:
        ExportError: If the folder is damaged, or has no model with the tag ``serve``.
    """

    def __init__(self, path: Path) -> None:
        config = tf.compat.v1.ConfigProto()
        config.gpu_options.allow_growth = True
        self._session = tf.compat.v1.Session(graph=tf.Graph(), config=config)
        loader = tf.compat.v1.saved_model
        try:
            with self._session.graph.as_default(), _without_warnings():
                graph = loader.load(self._session, [tf.saved_model.SERVING], str(path))
        except (OSError, RuntimeError, ValueError, DecodeError, tf.errors.OpError) as error:
            raise ExportError(
                f"{path} is not a SavedModel that TensorFlow {tf.__version__} can load: "
                f"{_reason(error)}\nExport it again."
            ) from None
        self.signatures = {
            name: Signature(_tensors(one.inputs), _tensors(one.outputs))
            for name, one in sorted(graph.signature_def.items())
            if name != _INITIALIZER
        }

    def run(self, signature: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Runs the model; see :meth:`dlsweep.runtimes.base.ExportedModel.run`."""
        called = self.signatures[signature]
        feeds = {called.inputs[name].name: values for name, values in inputs.items()}
        fetches = {name: one.name for name, one in called.outputs.items()}
        try:
            outputs: dict[str, Any] = self._session.run(fetches, feeds)
        except tf.errors.InvalidArgumentError as error:
            raise InputError(f"The model refuses the input: {_reason(error)}") from None
        return {name: np.asarray(values) for name, values in outputs.items()}


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    """Keeps back the advice to load with TensorFlow 2, which would not check shapes."""
    logger = tf.get_logger()
    level = logger.level
    logger.setLevel("ERROR")
    try:
        yield
    finally:
        logger.setLevel(level)


def _tensors(infos: Mapping[str, Any]) -> dict[str, Tensor]:
    return {name: _tensor(info) for name, info in sorted(infos.items())}


def _tensor(info: Any) -> Tensor:
    dtype = tf.as_dtype(info.dtype).name
    shape = tuple(int(dim.size) for dim in info.tensor_shape.dim)
    return Tensor(info.name, dtype, None if info.tensor_shape.unknown_rank else shape)


def _reason(error: Exception) -> str:
    """Returns what an assertion in the model says, or else the first line."""
    text = str(error.message if isinstance(error, tf.errors.OpError) else error).strip()
    if said := re.search(r"assertion failed: \[(.*)\]", text):
        return said[1].replace("\\'", "'")
    return text.partition("\n")[0]
