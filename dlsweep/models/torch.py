"""PyTorch models for classification: they return one score (logit) a class."""

from __future__ import annotations

import itertools
import math
from typing import Literal, get_args

from torch import Tensor, nn

from dlsweep.models.arguments import check_activation, check_dropout, check_positive, pooled

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


def _block(fan_in: int, fan_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(fan_in, fan_out, kernel_size=3, padding=1, bias=False),
        nn.BatchNorm2d(fan_out),
        nn.ReLU(),
        nn.MaxPool2d(2),
    )
