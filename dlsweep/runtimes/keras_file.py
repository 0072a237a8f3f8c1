"""Runs a ``.keras`` file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
from numpy.typing import NDArray

from dlsweep.errors import ExportError
from dlsweep.runtimes.base import DEFAULT, Signature, Tensor


class KerasFile:
    """A model in a ``.keras`` file; also see :class:`dlsweep.runtimes.base.ExportedModel`.

    Args:
        path: The file.

    Raises:
        ExportError: If it is damaged, or needs code of the user.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._model = keras.saving.load_model(path, compile=False, safe_mode=True)
        except (OSError, TypeError, ValueError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise ExportError(
                f"Keras cannot load {path.name} without the code of the model's classes: {reason}\n"
                "Register these with  @keras.saving.register_keras_serializable()  and import them "
                "before; or export the model to savedmodel or onnx, which need no code."
            ) from None
        outputs = zip(self._model.output_names, self._model.outputs, strict=True)
        self.signatures = {
            DEFAULT: Signature(
                {one.name: _tensor(one.name, one) for one in self._model.inputs},
                {name: _tensor(name, one) for name, one in outputs},
            )
        }

    def run(self, signature: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Runs the model; see :meth:`dlsweep.runtimes.base.ExportedModel.run`."""
        names = list(self.signatures[signature].inputs)
        given = {name: inputs[name] for name in names}
        output = self._model(given if len(names) > 1 else given[names[0]], training=False)
        name = next(iter(self.signatures[signature].outputs))
        return {name: keras.ops.convert_to_numpy(output)}


def _tensor(name: str, tensor: keras.KerasTensor) -> Tensor:
    sizes = tuple(-1 if size is None else size for size in tensor.shape)
    return Tensor(name, tensor.dtype, sizes)
