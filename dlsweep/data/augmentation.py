"""Image augmentation that depends only on the seed, the epoch and the example.

NumPy draws the random numbers, so they are the same in every framework; a framework only picks the
pixels. So a resumed run gets the same images, and global random states do not change.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlsweep.errors import ConfigError, DataError

#: Separates these random numbers from others of the same seed and epoch.
_STREAM = 1
#: A last axis of at most this length has an image's channels, not its width.
_CHANNELS = 4


@dataclass(frozen=True)
class Augmentation:
    """Random flips and shifts of training images.

    Attributes:
        horizontal_flip: The share of images that are mirrored left to right.
        vertical_flip: The share of images that are mirrored top to bottom.
        shift: The largest shift, as a share of height and width. Every whole number of pixels up to
            it is equally likely; pixels beyond the border are mirrored at it.

    Raises:
        ConfigError: If a share is out of range.
    """

    horizontal_flip: float = 0.0
    vertical_flip: float = 0.0
    shift: float = 0.0

    def __post_init__(self) -> None:
        for name, most in (("horizontal_flip", 1.0), ("vertical_flip", 1.0), ("shift", 0.5)):
            if not 0 <= getattr(self, name) <= most:
                raise ConfigError(
                    f"data.augmentation.{name}: Received {getattr(self, name)}. "
                    f"Expected a share from 0 to {most:g}."
                )

    def __bool__(self) -> bool:
        return bool(self.horizontal_flip or self.vertical_flip or self.shift)

    def check(self, shape: Sequence[int]) -> None:
        """Raises DataError if there is any augmentation and an input is not an image.

        Args:
            shape: The shape of one input.
        """
        if self and (len(shape) < 2 or shape[-1] <= _CHANNELS):
            raise DataError(
                f"data.augmentation: Received inputs of shape {list(shape)}. "
                "Expected images, [channels, height, width] or [height, width]."
            )

    def draw(self, seed: int, epoch: int, shape: Sequence[int]) -> Moves:
        """Draws the flips and shifts of each example in an epoch.

        Args:
            seed: The seed of the training.
            epoch: The epoch, counted from 1.
            shape: The shape of all inputs: [examples, ..., height, width].
        """
        random = np.random.default_rng((seed, epoch, _STREAM))
        examples, (height, width) = shape[0], shape[-2:]

        def axis(size: int, flip: float) -> Axis:
            most = int(self.shift * size)
            flipped = random.random(examples) < flip
            return Axis(size, flipped, random.integers(-most, most, examples, endpoint=True))

        vertical = axis(height, self.vertical_flip)
        return Moves(vertical, axis(width, self.horizontal_flip), len(shape) - 3)


@dataclass(frozen=True)
class Axis:
    """Flips and shifts along height or width.

    Attributes:
        size: The size in pixels.
        flipped: Whether each example is flipped, shape [examples].
        offsets: The shift of each example in pixels, shape [examples].
    """

    size: int
    flipped: NDArray[np.bool_]
    offsets: NDArray[np.int64]

    def origins(self, rows: Any) -> NDArray[np.int64]:
        """Returns the source position of each pixel of some examples, shape [rows, size]."""
        last = self.size - 1
        from_left = np.arange(self.size) + self.offsets[rows, None]
        inside = last - np.abs(last - np.abs(from_left))
        origins: NDArray[np.int64] = np.where(self.flipped[rows, None], last - inside, inside)
        return origins


@dataclass(frozen=True)
class Moves:
    """Flips and shifts of each example in one epoch.

    Attributes:
        vertical: Along the height.
        horizontal: Along the width.
        between: The number of axes between the examples and the height.
    """

    vertical: Axis
    horizontal: Axis
    between: int

    def origins(self, rows: Any) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Returns the source positions of the pixels of some examples.

        Args:
            rows: Positions of the examples.

        Returns:
            Indices for a ``take_along_axis`` of the examples along their height and then along
            their width: shapes [rows, 1..., height, 1] and [rows, 1..., 1, width].
        """
        ones = (1,) * self.between
        y, x = self.vertical.origins(rows), self.horizontal.origins(rows)
        return y.reshape(len(y), *ones, -1, 1), x.reshape(len(x), *ones, 1, -1)
