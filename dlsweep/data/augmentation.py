"""Random changes to training images, as a function of the seed, the epoch and the example.

What is drawn is NumPy's and the same in every framework; a framework only picks the pixels. That
makes it exact when a run goes on in another process, and leaves the global random numbers alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlsweep.errors import ConfigError, DataError

#: Told apart by it from other random numbers of the same seed and epoch.
_STREAM = 1
#: A last axis this short holds an image's channels, not its width.
_CHANNELS = 4


@dataclass(frozen=True)
class Augmentation:
    """How training images change from epoch to epoch.

    Attributes:
        horizontal_flip: The share of the images that are mirrored left to right.
        vertical_flip: The share of them turned upside down.
        shift: The largest shift, as a share of height and width; every whole number of pixels up
            to it is as likely, and what lies beyond the border is mirrored at it.

    Raises:
        ConfigError: If a share is out of its range.
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
        """Raises DataError if there is something to do and an input is no image.

        Args:
            shape: Of one input.
        """
        if self and (len(shape) < 2 or shape[-1] <= _CHANNELS):
            raise DataError(
                f"data.augmentation: Received inputs of shape {list(shape)}. "
                "Expected images, [channels, height, width] or [height, width]."
            )

    def draw(self, seed: int, epoch: int, shape: Sequence[int]) -> Moves:
        """Draws what happens to each example in an epoch.

        Args:
            seed: Of the training.
            epoch: Counted from 1.
            shape: Of all inputs: [examples, ..., height, width].
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
    """What happens along height or width.

    Attributes:
        size: In pixels.
        flipped: Of each example, shape [examples].
        offsets: Likewise, in pixels.
    """

    size: int
    flipped: NDArray[np.bool_]
    offsets: NDArray[np.int64]

    def origins(self, rows: Any) -> NDArray[np.int64]:
        """Where each pixel of some examples comes from, shape [rows, size]."""
        last = self.size - 1
        from_left = np.arange(self.size) + self.offsets[rows, None]
        inside = last - np.abs(last - np.abs(from_left))
        origins: NDArray[np.int64] = np.where(self.flipped[rows, None], last - inside, inside)
        return origins


@dataclass(frozen=True)
class Moves:
    """What happens to each example in one epoch.

    Attributes:
        vertical: Along the height.
        horizontal: Along the width.
        between: How many axes lie between the examples and the height.
    """

    vertical: Axis
    horizontal: Axis
    between: int

    def origins(self, rows: Any) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Where the pixels of some examples come from.

        Args:
            rows: Positions of the examples.

        Returns:
            Indices for a ``take_along_axis`` of the examples along their height and then along
            their width: shapes [rows, 1..., height, 1] and [rows, 1..., 1, width].
        """
        ones = (1,) * self.between
        y, x = self.vertical.origins(rows), self.horizontal.origins(rows)
        return y.reshape(len(y), *ones, -1, 1), x.reshape(len(x), *ones, 1, -1)
