"""PyTorch models for classification: they return one score (logit) a class."""

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
    """Fully connected layers, each but the last with an activation and dropout.

    Args:
        input_shape: The shape of one input; it is flattened.
        classes: How many scores to return.
        hidden: The width of each hidden layer, or of the only one; ``[]`` for none.
        dropout: The share of activations set to zero in training.
        activation: What comes after each hidden layer.

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
        """Scores of shape [batch, classes] for inputs of shape [batch, *input_shape]."""
        scores: Tensor = self.layers(inputs)
        return scores


class CNN(nn.Module):
    """Blocks of a 3x3 convolution, batch norm, ReLU and pooling by two; then one hidden layer.

    Args:
        input_shape: The shape of one input: [channels, height, width].
        classes: How many scores to return.
        channels: The channels of each block; each block halves height and width.
        hidden: The width of the hidden layer behind them.
        dropout: The share of its activations set to zero in training.

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
        """Scores of shape [batch, classes] for inputs of shape [batch, *input_shape]."""
        scores: Tensor = self.layers(inputs)
        return scores


class TwoBranches(nn.Module):
    """A layer for each of several inputs; what they give is joined, and goes on through another.

    Args:
        input_shape: The features of each input by name, such as ``{"left": [32], "right": [64]}``.
        classes: How many scores to return.
        branch: The width of each input's layer.
        hidden: The width of the layer behind the join.
        dropout: The share of its activations set to zero in training.

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
        """Scores of shape [batch, classes] for inputs of shape [batch, features], by name."""
        parts = [layer(inputs[name]).relu() for name, layer in self.branches.items()]
        scores: Tensor = self.joined(torch.cat(parts, 1))
        return scores


class ResNet(nn.Module):
    """The residual network for images of 32 by 32 pixels.

    He, Zhang, Ren and Sun, Deep Residual Learning for Image Recognition, 2016, section 4.2; of
    6 ``blocks`` + 2 layers, with projections where the shape changes.

    Args:
        input_shape: The shape of one input: [channels, height, width].
        classes: How many scores to return.
        channels: Of each stage; each but the first halves height and width.
        blocks: Residual blocks of each stage.

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
        """Scores of shape [batch, classes] for inputs of shape [batch, *input_shape]."""
        scores: Tensor = self.layers(inputs)
        return scores


class _Residual(nn.Module):
    """Two convolutions beside a shortcut."""

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
