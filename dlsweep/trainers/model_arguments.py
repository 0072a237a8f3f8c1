"""Checks of model arguments, shared by all frameworks."""

from __future__ import annotations

from dlsweep.errors import ConfigError


def check_positive(**sizes: list[int]) -> None:
    """Raises ConfigError if a size is not above 0; keywords are argument names."""
    for name, values in sizes.items():
        if not all(value > 0 for value in values):
            raise ConfigError(
                f"model.{name}: Received {', '.join(map(str, values))}. "
                "Expected whole numbers above 0."
            )


def check_dropout(dropout: float) -> None:
    """Raises ConfigError if the dropout rate is out of range."""
    if not 0 <= dropout < 1:
        raise ConfigError(f"model.dropout: Received {dropout}. Expected 0 or more, and below 1.")


def check_activation(activation: str, valid: tuple[str, ...]) -> None:
    """Raises ConfigError if an activation is unknown."""
    if activation not in valid:
        raise ConfigError(
            f"model.activation: Received {activation!r}. Expected one of {', '.join(valid)}."
        )


def pooled(input_shape: list[int], blocks: int) -> tuple[int, int]:
    """Returns the height and width of an image after blocks that each halve it.

    Args:
        input_shape: [channels, height, width].
        blocks: The number of blocks.

    Raises:
        ConfigError: If nothing is left, or there is no block.
    """
    check_image(input_shape)
    height, width = (size >> blocks for size in input_shape[1:])
    if not blocks or not height or not width:
        raise ConfigError(
            f"model.channels: Received {blocks} blocks for images of "
            f"{input_shape[1]} by {input_shape[2]} pixels. Expected 1 to "
            f"{min(input_shape[1:]).bit_length() - 1}, since each halves the image."
        )
    return height, width


def check_image(input_shape: list[int]) -> None:
    """Raises ConfigError if an input is not an image."""
    if len(input_shape) != 3:
        raise ConfigError(
            f"model.input_shape: Received {list(input_shape)}. Expected [channels, height, width]."
        )


def check_branches(input_shape: object) -> None:
    """Raises ConfigError unless there are several inputs by name, each a vector of features."""
    shapes = list(input_shape.values()) if isinstance(input_shape, dict) else []
    if len(shapes) < 2 or any(len(shape) != 1 for shape in shapes):
        raise ConfigError(
            f"model.input_shape: Received {input_shape}. Expected the features of several inputs "
            "by name, such as {left: [32], right: [64]}."
        )
