"""Finds the versions of an exported model in its folder, and loads them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlsweep.errors import ExportError
from dlsweep.runtimes.base import ExportedModel, Signature, Tensor
from dlsweep.runtimes.formats import FORMATS, format_of
from dlsweep.serve.tensors import FAMILIES

#: The formats whose runtime refuses wrong shapes and takes several calls at once.
_SERVED = ("onnx", "savedmodel")
_TYPES = {
    "bool": "DT_BOOL",
    "string": "DT_STRING",
    "float16": "DT_HALF",
    "bfloat16": "DT_BFLOAT16",
    "float32": "DT_FLOAT",
    "float64": "DT_DOUBLE",
    **{f"{u}int{n}": f"DT_{u.upper()}INT{n}" for u in ("", "u") for n in (8, 16, 32, 64)},
}


@dataclass(frozen=True)
class Found:
    """An exported model that was found, but not loaded.

    Attributes:
        name: The name of the export.
        versions: The folder of each version, in ascending order.
    """

    name: str
    versions: Mapping[int, Path]


@dataclass(frozen=True)
class Served:
    """A model with its versions loaded.

    Attributes:
        name: Its name in addresses.
        versions: The model of each version, in ascending order.
    """

    name: str
    versions: Mapping[int, ExportedModel]

    @property
    def newest(self) -> int:
        """The version that a request without one gets."""
        return max(self.versions)

    def status(self, version: int | None) -> dict[str, Any]:
        """Returns what TensorFlow Serving says of all versions, or of one."""
        return {
            "model_version_status": [
                {
                    "version": str(one),
                    "state": "AVAILABLE",
                    "status": {"error_code": "OK", "error_message": ""},
                }
                for one in sorted(self.versions, reverse=True)
                if version in (None, one)
            ]
        }

    def metadata(self, version: int) -> dict[str, Any]:
        """Returns the signatures of a version, as TensorFlow Serving's ``SignatureDefMap``."""
        signatures = self.versions[version].signatures.items()
        return {
            "model_spec": {"name": self.name, "signature_name": "", "version": str(version)},
            "metadata": {
                "signature_def": {
                    "@type": "type.googleapis.com/tensorflow.serving.SignatureDefMap",
                    "signature_def": {name: _signature_def(one) for name, one in signatures},
                }
            },
        }


def _signature_def(signature: Signature) -> dict[str, Any]:
    return {
        "inputs": {name: _tensor_info(one) for name, one in signature.inputs.items()},
        "outputs": {name: _tensor_info(one) for name, one in signature.outputs.items()},
        "method_name": "tensorflow/serving/predict",
    }


def _tensor_info(tensor: Tensor) -> dict[str, Any]:
    dimensions = [{"size": str(size), "name": ""} for size in tensor.shape or ()]
    return {
        "dtype": _TYPES[tensor.dtype],
        "tensor_shape": {"dim": dimensions, "unknown_rank": tensor.shape is None},
        "name": tensor.name,
    }


def find(folder: Path) -> Found:
    """Finds an exported model and its versions.

    Args:
        folder: The folder of a format, such as ``exports/digits/onnx``, or of one version.

    Raises:
        ExportError: If there is no such folder, or it has no version.
    """
    if not folder.is_dir():
        raise ExportError(
            f"There is no folder {folder}.\nExpected an export, as  exports/digits/onnx"
        )
    folder = folder.resolve()
    if _number(folder) and format_of(folder):
        return Found(_name(folder.parent), {_number(folder): folder})
    versions = {_number(one): one for one in folder.iterdir() if one.is_dir() and _number(one)}
    if versions:
        return Found(_name(folder), dict(sorted(versions.items())))
    formats = [folder / one for one in _SERVED if (folder / one).is_dir()]
    raise ExportError(
        f"{folder} has no version: no folder there is named with a number, as 1.\n"
        + (
            f"Type one of its formats:  {'  or  '.join(map(str, formats))}"
            if formats
            else "Expected an export, as  exports/digits/onnx"
        )
    )


def _number(folder: Path) -> int:
    """Returns a version's number, 0 for a name that is none."""
    name = folder.name
    return int(name) if name.isascii() and name.isdigit() and len(name) < 19 else 0


def _name(folder: Path) -> str:
    return folder.parent.name if folder.name in FORMATS else folder.name


def load(found: Found, name: str) -> Served:
    """Loads all versions of a model.

    Raises:
        ExportError: If a version is damaged, or has an input that JSON cannot give.
        MissingExtraError: If the format's runtime is not installed.
    """
    return Served(name, {number: _load_one(found, number) for number in found.versions})


def _load_one(found: Found, number: int) -> ExportedModel:
    folder = found.versions[number]
    try:
        model = _load(folder)
        _check_inputs(model)
    except ExportError as error:
        others = [str(one) for one in found.versions.values() if one != folder]
        hint = f"\nOr serve another version:  {others[-1]}" if others else ""
        raise ExportError(f"{error}{hint}") from None
    return model


def _load(folder: Path) -> ExportedModel:
    form = format_of(folder)
    if form is None or form.name not in _SERVED:
        files = " or ".join(FORMATS[name].mark for name in _SERVED)
        raise ExportError(
            f"{folder} has no model to serve. Expected the file {files}.\nExport it to one of "
            f"these formats:  --to {','.join(_SERVED)}"
        )
    return form.load(folder)


def _check_inputs(model: ExportedModel) -> None:
    for name, signature in model.signatures.items():
        for key, tensor in signature.inputs.items():
            if tensor.shape is None or tensor.dtype.rstrip("0123456789") not in FAMILIES:
                shape = "any rank" if tensor.shape is None else f"{len(tensor.shape)} dimensions"
                raise ExportError(
                    f"Signature {name!r}: Received an input {key!r} of type {tensor.dtype} and "
                    f"{shape}. Expected numbers, booleans or strings, and a fixed rank.\n"
                    "Export it with such inputs."
                )
