"""Keras models for classification, with the same layers as :mod:`dlsweep.torch.models`.

They return one score (logit) for each class, use PyTorch's weight initialization, and take images
as [channels, height, width].
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import keras
from keras import layers

from dlsweep.trainers.model_arguments import (
    check_activation,
    check_branches,
    check_dropout,
    check_image,
    check_positive,
    pooled,
)

Activation = Literal["relu", "gelu", "silu", "elu", "tanh"]


def MLP(  # noqa: N802 - the name in the config, as those in keras.applications
    input_shape: list[int],
    classes: int,
    hidden: int | list[int],
    dropout: float = 0.0,
    activation: Activation = "relu",
) -> keras.Model:
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
        model.add(layers.MaxPooling2D(data_format="channels_last"))
        fan_in = fan_out
    model.add(layers.Flatten())
    model.add(_dense(fan_in * height * width, hidden))
    model.add(layers.ReLU())
    model.add(layers.Dropout(dropout))
    model.add(_dense(hidden, classes))
    return model


def TwoBranches(  # noqa: N802
    input_shape: dict[str, list[int]],
    classes: int,
    branch: int = 32,
    hidden: int = 64,
    dropout: float = 0.0,
) -> keras.Model:
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
    check_branches(input_shape)
    check_positive(classes=[classes], branch=[branch], hidden=[hidden])
    check_dropout(dropout)
    inputs = {name: keras.Input(tuple(shape), name=name) for name, shape in input_shape.items()}
    parts = [layers.ReLU()(_dense(each.shape[-1], branch)(each)) for each in inputs.values()]
    joined = layers.Concatenate()(parts)
    behind = layers.ReLU()(_dense(joined.shape[-1], hidden)(joined))
    scores = _dense(hidden, classes)(layers.Dropout(dropout)(behind))
    return keras.Model(inputs, scores, name="two_branches")


def ResNet(  # noqa: N802
    input_shape: list[int],
    classes: int,
    channels: list[int],
    blocks: int = 3,
) -> keras.Model:
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
    check_image(input_shape)
    check_positive(input_shape=input_shape, classes=[classes], channels=channels, blocks=[blocks])
    inputs = keras.Input(tuple(input_shape))
    outputs = layers.ReLU()(_normed(layers.Permute((2, 3, 1))(inputs), channels[0]))
    for stage, fan_out in enumerate(channels):
        for number in range(blocks):
            outputs = _residual(outputs, fan_out, strides=2 if stage and not number else 1)
    pooled_outputs = layers.GlobalAveragePooling2D(data_format="channels_last")(outputs)
    return keras.Model(inputs, _dense(channels[-1], classes)(pooled_outputs), name="resnet")


def _residual(inputs: Any, fan_out: int, strides: int) -> Any:
    """A residual block: two convolutions and a shortcut."""
    body = layers.ReLU()(_normed(inputs, fan_out, strides=strides))
    shortcut = inputs
    if inputs.shape[-1] != fan_out or strides > 1:
        shortcut = _normed(inputs, fan_out, size=1, strides=strides)
    return layers.ReLU()(layers.Add()([_normed(body, fan_out), shortcut]))


def _normed(inputs: Any, fan_out: int, size: int = 3, strides: int = 1) -> Any:
    return _batch_norm()(_convolution(inputs.shape[-1], fan_out, size, strides)(inputs))


def _dense(fan_in: int, units: int) -> keras.Layer:
    return layers.Dense(
        units, kernel_initializer=_uniform(fan_in), bias_initializer=_uniform(fan_in)
    )


def _convolution(fan_in: int, filters: int, size: int = 3, strides: int = 1) -> keras.Layer:
    """A convolution without bias, as batch norm follows; only the stride reduces the size."""
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
