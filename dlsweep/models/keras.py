"""Keras models for classification, layer for layer those of :mod:`dlsweep.models.torch`.

They return one score (logit) a class, start from weights drawn as PyTorch draws them, and take
images as [channels, height, width].
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import keras
from keras import layers

from dlsweep.models.arguments import check_activation, check_dropout, check_positive, pooled

Activation = Literal["relu", "gelu", "silu", "elu", "tanh"]


def MLP(  # noqa: N802 - the name in the config, as those in keras.applications
    input_shape: list[int],
    classes: int,
    hidden: int | list[int],
    dropout: float = 0.0,
    activation: Activation = "relu",
) -> keras.Model:
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
    widths = [hidden] if isinstance(hidden, int) else list(hidden)
    check_positive(input_shape=input_shape, classes=[classes], hidden=widths)
    check_dropout(dropout)
    check_activation(activation, get_args(Activation))
    model = keras.Sequential([keras.Input(tuple(input_shape)), layers.Flatten()], name="mlp")
    fan_in = model.output_shape[-1]
    for width in widths:
        model.add(_dense(fan_in, width))
        model.add(layers.Activation(activation))
        model.add(layers.Dropout(dropout))
        fan_in = width
    model.add(_dense(fan_in, classes))
    return model


def CNN(  # noqa: N802
    input_shape: list[int],
    classes: int,
    channels: list[int],
    hidden: int = 128,
    dropout: float = 0.0,
) -> keras.Model:
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
    check_positive(input_shape=input_shape, classes=[classes], channels=channels, hidden=[hidden])
    check_dropout(dropout)
    height, width = pooled(input_shape, len(channels))
    model = keras.Sequential(
        [keras.Input(tuple(input_shape)), layers.Permute((2, 3, 1))], name="cnn"
    )
    fan_in = input_shape[0]
    for fan_out in channels:
        model.add(_convolution(fan_in, fan_out))
        model.add(_batch_norm())
        model.add(layers.ReLU())
        model.add(layers.MaxPooling2D())
        fan_in = fan_out
    model.add(layers.Flatten())
    model.add(_dense(fan_in * height * width, hidden))
    model.add(layers.ReLU())
    model.add(layers.Dropout(dropout))
    model.add(_dense(hidden, classes))
    return model


def _dense(fan_in: int, units: int) -> keras.Layer:
    return layers.Dense(
        units, kernel_initializer=_uniform(fan_in), bias_initializer=_uniform(fan_in)
    )


def _convolution(fan_in: int, filters: int, size: int = 3, strides: int = 1) -> keras.Layer:
    """Without a bias, since batch norm comes next; the output is smaller by the stride alone."""
    return layers.Conv2D(
        filters,
        size,
        strides,
        padding="same",
        use_bias=False,
        data_format="channels_last",
        kernel_initializer=_uniform(fan_in * size * size),
    )


def _batch_norm() -> keras.Layer:
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5)


def _uniform(fan_in: int) -> Any:
    bound = fan_in**-0.5
    return keras.initializers.RandomUniform(-bound, bound)
