"""Writes Keras models for LiteRT (``.tflite``)."""

from __future__ import annotations

import tempfile
import warnings
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import keras
import tensorflow as tf

from dlsweep.data.base import Array
from dlsweep.keras.saved_model import write_saved_model
from dlsweep.runtimes.base import DEFAULT
from dlsweep.trainers.exporting import ExportSpec


def write_litert(model: keras.Model, spec: ExportSpec, path: Path) -> None:
    """Writes a LiteRT model with the signature ``serving_default``.

    Its files are a zip archive behind the model, as in TensorFlow Lite's metadata: ``unzip`` and
    Android's library read it, and the interpreter does not see it.

    Args:
        model: The model, on the TensorFlow backend.
        spec: What it takes; words are encoded.
        path: The new ``.tflite`` file.
    """
    with tempfile.TemporaryDirectory() as folder:
        plain = replace(spec, labels=())
        write_saved_model(model, plain, Path(folder) / "model")
        converter = tf.lite.TFLiteConverter.from_saved_model(
            str(Path(folder) / "model"), signature_keys=[DEFAULT]
        )
        _quantize(converter, spec)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the calibrator's, of TensorFlow's own interpreter
            content = converter.convert()
    path.write_bytes(content)
    with zipfile.ZipFile(path, "a") as archive:
        for name, text in spec.files.items():
            archive.writestr(name, text)


def _quantize(converter: tf.lite.TFLiteConverter, spec: ExportSpec) -> None:
    if spec.quantization is None:
        return
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if spec.quantization == "float16":
        converter.target_spec.supported_types = [tf.float16]
    elif spec.quantization == "int8":
        converter.representative_dataset = lambda: _single_examples(spec)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]


def _single_examples(spec: ExportSpec) -> Iterator[dict[str, Array]]:
    count = len(next(iter(spec.examples.values())))
    for row in range(count):
        yield {name: array[row : row + 1] for name, array in spec.examples.items()}
