"""PyTorch models for classification. They return one score (logit) for each class."""

from __future__ import annotations

import itertools
import math
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from dlsweep.trainers.model_arguments import (
    check_activation,
    check_branches,
    check_dropout,
    check_image,
    check_positive,
    pooled,
)

Activation = Literal["relu", "gelu", "silu", "elu", "tanh"]
_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "elu": nn.ELU,
    "tanh": nn.Tanh,
}


class MLP(nn.Module):
    """A multilayer perceptron: linear layers with activation and dropout between them.

    Args:
        input_shape: The shape of one input; it is flattened.
        classes: The number of classes, and of scores.
        hidden: The width of each hidden layer, or of the only one; ``[]`` for none.
        dropout: The dropout rate.
        activation: The activation after each hidden layer.

    Raises:
        ConfigError: If an argument is out of its range.
    """

    def __init__(
        self,
        input_shape: list[int],
        classes: int,
        hidden: int | list[int],
        dropout: float = 0.0,
        activation: Activation = "relu",
    ) -> None:
        super().__init__()
        widths = [hidden] if isinstance(hidden, int) else list(hidden)
        check_positive(input_shape=input_shape, classes=[classes], hidden=widths)
        check_dropout(dropout)
        check_activation(activation, get_args(Activation))
        layers: list[nn.Module] = [nn.Flatten()]
        for fan_in, width in itertools.pairwise([math.prod(input_shape), *widths]):
            layers += [nn.Linear(fan_in, width), _ACTIVATIONS[activation](), nn.Dropout(dropout)]
        fan_in = widths[-1] if widths else math.prod(input_shape)
        self.layers = nn.Sequential(*layers, nn.Linear(fan_in, classes))

    def forward(self, inputs: Tensor) -> Tensor:
        """Returns scores [batch, classes] for inputs [batch, *input_shape]."""
        scores: Tensor = self.layers(inputs)
        return scores


class CNN(nn.Module):
    """A CNN: blocks of 3x3 convolution, batch norm, ReLU and 2x2 pooling; then a hidden layer.

    Args:
        input_shape: The shape of one input: [channels, height, width].
        classes: The number of classes, and of scores.
        channels: The channels of each block; each block halves height and width.
        hidden: The width of the hidden layer after the blocks.
        dropout: The dropout rate of the hidden layer.

    Raises:
        ConfigError: If an argument is out of its range.
    """

    def __init__(
        self,
        input_shape: list[int],
        classes: int,
        channels: list[int],
        hidden: int = 128,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_positive(
            input_shape=input_shape, classes=[classes], channels=channels, hidden=[hidden]
        )
        check_dropout(dropout)
        height, width = pooled(input_shape, len(channels))
        blocks = [
            _block(fan_in, fan_out)
            for fan_in, fan_out in itertools.pairwise([input_shape[0], *channels])
        ]
        self.layers = nn.Sequential(
            *blocks,
            nn.Flatten(),
            nn.Linear(channels[-1] * height * width, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, classes),
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """Returns scores [batch, classes] for inputs [batch, *input_shape]."""
        scores: Tensor = self.layers(inputs)
        return scores


class TwoBranches(nn.Module):
    """A model with several inputs: a layer for each input, then a hidden layer for all.

    Args:
        input_shape: The features of each input by name, such as ``{"left": [32], "right": [64]}``.
        classes: The number of classes, and of scores.
        branch: The width of each input's layer.
        hidden: The width of the hidden layer.
        dropout: The dropout rate of the hidden layer.

    Raises:
        ConfigError: If an argument is out of its range.
    """

    def __init__(
        self,
        input_shape: dict[str, list[int]],
        classes: int,
        branch: int = 32,
        hidden: int = 64,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_branches(input_shape)
        check_positive(classes=[classes], branch=[branch], hidden=[hidden])
        check_dropout(dropout)
        self.branches = nn.ModuleDict(
            {name: nn.Linear(features, branch) for name, (features,) in input_shape.items()}
        )
        self.joined = nn.Sequential(
            nn.Linear(branch * len(input_shape), hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, classes),
        )

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        """Returns scores [batch, classes] for inputs [batch, features] by name."""
        parts = [layer(inputs[name]).relu() for name, layer in self.branches.items()]
        scores: Tensor = self.joined(torch.cat(parts, 1))
        return scores


class ResNet(nn.Module):
    """A residual network for images of 32 by 32 pixels.

    He, Zhang, Ren and Sun, Deep Residual Learning for Image Recognition, 2016, section 4.2. It has
    6 ``blocks`` + 2 layers, with projections where the shape changes.

    Args:
        input_shape: The shape of one input: [channels, height, width].
        classes: The number of classes, and of scores.
        channels: The channels of each stage; each stage after the first halves height and width.
        blocks: The number of residual blocks in each stage.

    Raises:
        ConfigError: If an argument is out of its range.
    """

    def __init__(
        self,
        input_shape: list[int],
        classes: int,
        channels: list[int],
        blocks: int = 3,
    ) -> None:
        super().__init__()
        check_image(input_shape)
        check_positive(
            input_shape=input_shape, classes=[classes], channels=channels, blocks=[blocks]
        )
        layers = [_normed(input_shape[0], channels[0]), nn.ReLU()]
        fan_in = channels[0]
        for stage, fan_out in enumerate(channels):
            for number in range(blocks):
                layers.append(_Residual(fan_in, fan_out, 2 if stage and not number else 1))
                fan_in = fan_out
        self.layers = nn.Sequential(
            *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(fan_in, classes)
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """Returns scores [batch, classes] for inputs [batch, *input_shape]."""
        scores: Tensor = self.layers(inputs)
        return scores


class _Residual(nn.Module):
    """A residual block: two convolutions and a shortcut."""

    def __init__(self, fan_in: int, fan_out: int, stride: int) -> None:
        super().__init__()
        first = _normed(fan_in, fan_out, stride=stride)
        self.body = nn.Sequential(first, nn.ReLU(), _normed(fan_out, fan_out))
        has_same_shape = fan_in == fan_out and stride == 1
        self.shortcut: nn.Module = nn.Identity()
        if not has_same_shape:
            self.shortcut = _normed(fan_in, fan_out, size=1, stride=stride)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.body(inputs) + self.shortcut(inputs)
        return outputs.relu()


def _block(fan_in: int, fan_out: int) -> nn.Sequential:
    return nn.Sequential(*_normed(fan_in, fan_out), nn.ReLU(), nn.MaxPool2d(2))


def _normed(fan_in: int, fan_out: int, size: int = 3, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(fan_in, fan_out, size, stride, padding=size // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(fan_out))
