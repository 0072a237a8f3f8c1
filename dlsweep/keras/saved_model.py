"""Writes Keras models as SavedModels, which TensorFlow Serving mounts."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from dlsweep.errors import ExportError
from dlsweep.runtimes.base import CLASSIFY, DEFAULT
from dlsweep.trainers.exporting import (
    INPUT,
    LABEL,
    PROBABILITY,
    SCORES,
    ExportSpec,
    only_output,
)

#: The names that TensorFlow keeps as they are.
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


def write_saved_model(model: keras.Model, spec: ExportSpec, path: Path) -> None:
    """Writes a SavedModel with the signatures ``serving_default`` and, for labels, ``classify``.

    Args:
        model: The model, on the TensorFlow backend.
        spec: What it takes; a column of words takes the words themselves.
        path: The new folder.

    Raises:
        ExportError: If an input has a name that TensorFlow would change.
    """
    if odd := [name for name in spec.arguments if not _NAME.fullmatch(name)]:
        raise ExportError(
            f"data: Received the input names {', '.join(map(repr, odd))}. A SavedModel's inputs "
            "are named with ASCII letters, digits and _.\nRename them in the data and the model."
        )
    archive = keras.export.ExportArchive()
    archive.track(model)
    for name, function in _signatures(model, spec).items():
        archive.add_endpoint(name, function, _argument_specs(spec))
    archive.write_out(path, verbose=False)


def _argument_specs(spec: ExportSpec) -> list[tf.TensorSpec]:
    if spec.has_words:
        return [
            tf.TensorSpec([None], tf.string if column.words else tf.float32, name=name)
            for name, column in zip(spec.arguments, spec.columns, strict=True)
        ]
    return [
        tf.TensorSpec([None, *array.shape[1:]], array.dtype, name=name)
        for name, array in spec.examples.items()
    ]


def _signatures(model: keras.Model, spec: ExportSpec) -> dict[str, Callable[..., Any]]:
    def score(*arguments: Any) -> Any:
        given = dict(zip(spec.arguments, arguments, strict=True))
        inputs = {INPUT: _encoded(given, spec)} if spec.has_words else given
        normalized = {name: _normalized(tensor, name, spec) for name, tensor in inputs.items()}
        output = spec.call(lambda found: model(found, training=False), normalized)
        return only_output(output, tf.Tensor)

    def serving(*arguments: Any) -> Mapping[str, Any]:
        return {SCORES: score(*arguments)}

    def classify(*arguments: Any) -> Mapping[str, Any]:
        scores = score(*arguments)
        return {
            SCORES: scores,
            LABEL: tf.gather(tf.constant(list(spec.labels)), tf.argmax(scores, 1)),
            PROBABILITY: tf.reduce_max(tf.nn.softmax(scores), 1),
        }

    return {DEFAULT: serving, **({CLASSIFY: classify} if spec.labels else {})}


def _normalized(tensor: Any, name: str, spec: ExportSpec) -> Any:
    if scaling := spec.scaling(name):
        mean, std = scaling
        return (tf.cast(tensor, tf.float32) - mean) / std
    return tensor


def _encoded(given: Mapping[str, Any], spec: ExportSpec) -> Any:
    """Encodes columns, each [batch], as one tensor [batch, inputs]."""
    parts = []
    for (name, values), column in zip(given.items(), spec.columns, strict=True):
        part = values[:, tf.newaxis]
        if column.words:
            is_word = tf.equal(part, tf.constant(list(column.words)))
            known = tf.reduce_all(tf.reduce_any(is_word, 1))
            message = f"{name}: Received an unknown word. Expected one of {list(column.words)}"
            with tf.control_dependencies([tf.debugging.Assert(known, [message])]):
                part = tf.cast(is_word, tf.float32)
        parts.append(part)
    return tf.concat(parts, 1)
