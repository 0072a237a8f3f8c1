"""Runs an ONNX model in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as errors

from dlsweep.errors import ExportError
from dlsweep.runtimes.base import CLASSIFY, DEFAULT, InputError, Signature, Tensor, texts

_DTYPES = {
    "tensor(bool)": "bool",
    "tensor(string)": "string",
    "tensor(float16)": "float16",
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    **{
        f"tensor({sign}int{bits})": f"{sign}int{bits}"
        for sign in ("", "u")
        for bits in (8, 16, 32, 64)
    },
}
#: The outputs that only the signature ``classify`` has.
_CLASS_OUTPUTS = ("label", "probability")
_PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")
_FATAL = 4


class OnnxModel:
    """An ONNX model; also see :class:`dlsweep.runtimes.base.ExportedModel`.

    An ONNX file has no signatures. ``serving_default`` has all outputs but ``label`` and
    ``probability``; if there is an output ``label``, ``classify`` has all outputs.

    Args:
        path: The ``.onnx`` file.
        threads: The number of threads that compute one call; by default, all cores.

    Raises:
        ExportError: If the file is damaged, or has inputs other than tensors.
    """

    def __init__(self, path: Path, threads: int = 0) -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _FATAL  # errors are raised; they would be printed, too
        options.intra_op_num_threads = threads
        # Threads that wait would use a core each, and slow down the other requests.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        usable = onnxruntime.get_available_providers()
        try:
            self._session = onnxruntime.InferenceSession(
                path, options, providers=[one for one in _PROVIDERS if one in usable]
            )
        except Exception as error:  # noqa: BLE001 - the errors of a bad file have no common base
            raise ExportError(
                f"{path} is not an ONNX model that ONNX Runtime {onnxruntime.__version__} can "
                f"load: {error}\nExport it again."
            ) from None
        self.signatures = self._find_signatures(path)

    def _find_signatures(self, path: Path) -> dict[str, Signature]:
        inputs = {one.name: _tensor(one, path) for one in self._session.get_inputs()}
        outputs = {one.name: _tensor(one, path) for one in self._session.get_outputs()}
        scores = {name: one for name, one in outputs.items() if name not in _CLASS_OUTPUTS}
        signatures = {DEFAULT: Signature(inputs, scores)}
        if "label" in outputs:
            signatures[CLASSIFY] = Signature(inputs, outputs)
        return signatures

    def run(self, signature: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Runs the model; see :meth:`dlsweep.runtimes.base.ExportedModel.run`."""
        names = list(self.signatures[signature].outputs)
        feeds = {
            name: texts(values) if values.dtype.kind == "O" else values
            for name, values in inputs.items()
        }
        try:
            return dict(zip(names, self._session.run(names, feeds), strict=True))
        except (errors.InvalidArgument, errors.Fail, errors.RuntimeException) as error:
            reason = str(error).rpartition("while running ")[2]
            raise InputError(f"The model refuses the input: {reason}") from None


def _tensor(node: Any, path: Path) -> Tensor:
    if node.type not in _DTYPES:
        raise ExportError(
            f"{path}: Received {node.name!r} of type {node.type}. Expected a tensor of numbers or "
            "strings.\nExport the model with such inputs and outputs."
        )
    shape = tuple(size if isinstance(size, int) else -1 for size in node.shape)
    return Tensor(node.name, _DTYPES[node.type], shape)
