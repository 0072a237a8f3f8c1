"""Runs a ``torch.export`` program (``.pt2``)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from dlsweep.errors import ExportError
from dlsweep.runtimes.base import DEFAULT, InputError, Signature, Tensor

#: The name of its output, which the program itself does not name.
_OUTPUT = "scores"


class Program:
    """A ``torch.export`` program; also see :class:`dlsweep.runtimes.base.ExportedModel`.

    Its module takes one argument: a tensor, or several by name.

    Args:
        path: The ``.pt2`` file.

    Raises:
        ExportError: If the file is damaged.
    """

    def __init__(self, path: Path) -> None:
        try:
            program = torch.export.load(path)
        except (OSError, RuntimeError, ValueError, KeyError) as error:
            raise ExportError(f"PyTorch cannot load {path}: {error}\nExport it again.") from None
        self._module = program.module()
        ((example,), _) = program.example_inputs
        self._is_single = isinstance(example, torch.Tensor)
        inputs = {"inputs": example} if self._is_single else example
        self.signatures = {
            DEFAULT: Signature(
                {name: _tensor(name, one) for name, one in inputs.items()},
                {_OUTPUT: Tensor(_OUTPUT, "float32", None)},
            )
        }

    @torch.no_grad()
    def run(self, signature: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Runs the model; see :meth:`dlsweep.runtimes.base.ExportedModel.run`."""
        assert signature in self.signatures
        tensors = {name: torch.from_numpy(array) for name, array in inputs.items()}
        try:
            outputs = self._module(tensors["inputs"] if self._is_single else tensors)
        except (AssertionError, RuntimeError) as error:  # from a guard on shapes, or on types
            raise InputError(f"The model refuses the input: {error}") from None
        return {_OUTPUT: outputs.numpy()}


def _tensor(name: str, example: torch.Tensor) -> Tensor:
    return Tensor(name, str(example.dtype).removeprefix("torch."), (-1, *example.shape[1:]))
