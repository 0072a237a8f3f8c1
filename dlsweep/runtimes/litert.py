"""Runs a ``.tflite`` file in LiteRT."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from dlsweep.errors import ExportError
from dlsweep.runtimes.base import DEFAULT, Signature, Tensor


class LiteRTModel:
    """A LiteRT model; also see :class:`dlsweep.runtimes.base.ExportedModel`.

    Unlike the others, it runs one call at a time, and broadcasts wrong shapes.

    Args:
        path: The ``.tflite`` file.

    Raises:
        ExportError: If the file is damaged.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._interpreter = Interpreter(model_path=str(path))
            self._runner = self._interpreter.get_signature_runner(DEFAULT)
        except (RuntimeError, ValueError) as error:
            raise ExportError(f"LiteRT cannot load {path}: {error}\nExport it again.") from None
        self.signatures = {
            DEFAULT: Signature(
                _tensors(self._runner.get_input_details()),
                _tensors(self._runner.get_output_details()),
            )
        }

    def run(self, signature: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Runs the model; see :meth:`dlsweep.runtimes.base.ExportedModel.run`."""
        assert signature in self.signatures
        return dict(self._runner(**inputs))


def _tensors(details: Mapping[str, Any]) -> dict[str, Tensor]:
    return {
        name: Tensor(one["name"], one["dtype"].__name__, tuple(map(int, one["shape_signature"])))
        for name, one in details.items()
    }
