"""Exports Keras models: to SavedModel, LiteRT, ONNX and ``.keras``.

Each format needs one of Keras's backends, and the model is rebuilt on that.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import keras

from dlsweep.errors import DlsweepError, ExportError
from dlsweep.keras.files import write_keras
from dlsweep.trainers.exporting import INPUT, ExportSpec, only_output

#: The environment in which each format is written.
ENVIRONMENTS = {
    "savedmodel": {"KERAS_BACKEND": "tensorflow"},
    "litert": {"KERAS_BACKEND": "tensorflow"},
    "onnx": {"KERAS_BACKEND": "torch"},
    "keras": {},
}


def write(model: keras.Model, form: str, spec: ExportSpec, path: Path) -> None:
    """Writes a model in one of the formats, on its backend.

    Raises:
        ExportError: If the model cannot be exported.
    """
    try:
        _writer(form)(model, spec, path)
    except DlsweepError as error:
        raise ExportError(str(error)) from None
    except Exception as error:  # tracing calls the model's code, which may raise anything
        raise ExportError(
            f"The model {model.name!r} cannot be exported to {form}: "
            f"{type(error).__name__}: {_reason(error)}"
        ) from error


def _reason(error: Exception) -> str:
    """Returns the operation that LiteRT's converter refuses, or else the first line."""
    text = str(error).strip()
    if refused := re.search(r"'tf\.\w+' op [^\n]+", text):
        return refused[0]
    return text.partition("\n")[0] or "without a message"


def _writer(form: str) -> Callable[[keras.Model, ExportSpec, Path], None]:
    if form == "savedmodel":
        from dlsweep.keras.saved_model import write_saved_model

        return write_saved_model
    if form == "litert":
        from dlsweep.keras.litert import write_litert

        return write_litert
    if form == "onnx":
        from dlsweep.torch.export import write_onnx  # on this backend, layers are PyTorch modules

        return write_onnx
    return _write_file


def _write_file(model: keras.Model, spec: ExportSpec, path: Path) -> None:
    """Writes a ``.keras`` file of the model with the normalization of its inputs in front."""
    inputs = {
        name: keras.Input(array.shape[1:], dtype=array.dtype.name, name=name)
        for name, array in spec.examples.items()
    }
    normalized = {name: _normalized(tensor, name, spec) for name, tensor in inputs.items()}
    output = only_output(spec.call(model, normalized), keras.KerasTensor)
    given = inputs[INPUT] if spec.is_single else inputs
    write_keras(keras.Model(given, output, name=f"{model.name}_from_raw"), path)


def _normalized(tensor: keras.KerasTensor, name: str, spec: ExportSpec) -> keras.KerasTensor:
    scaling = spec.scaling(name)
    if scaling is None:
        return tensor
    mean, std = scaling
    factor, offset = (1 / std).tolist(), (-mean / std).tolist()
    return keras.layers.Rescaling(factor, offset, dtype="float32")(tensor)
