"""Converts the outputs of a PyTorch model from standardized targets to their own units."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dlsweep.data.base import Array


class InOwnUnits(nn.Module):
    """A model of standardized targets, with outputs in the targets' own units.

    Args:
        model: The model.
        mean: The mean of the targets; broadcasts to one output.
        std: Their standard deviation, likewise.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, mean: Array, std: Array) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("mean", torch.from_numpy(mean))
        self.register_buffer("std", torch.from_numpy(std))

    def forward(self, inputs: Tensor | dict[str, Tensor]) -> Tensor:
        """Returns outputs [batch, ...] in the targets' own units."""
        outputs: Tensor = self.model(inputs)
        return outputs.float() * self.std + self.mean
