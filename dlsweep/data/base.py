"""What a data set is: splits of arrays, and how their inputs are normalised."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from dlsweep.errors import ConfigError, DataError

Array: TypeAlias = NDArray[Any]


@dataclass(frozen=True)
class Split:
    """Examples that belong together.

    Attributes:
        inputs: Shape [examples, ...]: uint8 pixels, floats, or integers such as token ids.
        targets: Shape [examples, ...]: classes as integers, or values as floats.

    Raises:
        DataError: If there are no examples, or not a target for each.
    """

    inputs: Array
    targets: Array

    def __post_init__(self) -> None:
        if not 0 < len(self.inputs) == len(self.targets):
            raise DataError(
                f"Received {len(self.inputs)} inputs and {len(self.targets)} targets. "
                "Expected at least one example, and as many targets as inputs."
            )

    def __len__(self) -> int:
        return len(self.inputs)


@dataclass(frozen=True)
class Data:
    """A data set in memory.

    Attributes:
        train: What the model learns from.
        validation: What it is judged by while it trains.
        test: What it is judged by at the very end, if that was set apart.
        mean: The mean of the training inputs; of uint8 inputs, after scaling them to 0..1.
        std: Their standard deviation.
        record: What a run notes down about its data, as plain JSON values.
    """

    train: Split
    validation: Split
    test: Split | None = None
    mean: float = 0.0
    std: float = 1.0
    record: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.std > 0:
            raise DataError(f"std: Received {self.std}. Expected a number above 0.")

    def normalise(self, inputs: Array) -> Array:
        """Inputs as a model takes them; see :func:`normalised`."""
        return normalised(inputs, self.mean, self.std)


def normalised(inputs: Array, mean: float = 0.0, std: float = 1.0) -> Array:
    """A copy in a type that models take.

    Args:
        inputs: uint8 pixels, floats, or integers such as token ids.
        mean: Of floats, and of pixels scaled to 0..1.
        std: Likewise.

    Returns:
        float32 with the mean taken away and divided by the deviation; integers as int64.

    Raises:
        DataError: If the inputs are no numbers.
    """
    if inputs.dtype == np.uint8 or inputs.dtype.kind == "f":
        scale = 255.0 if inputs.dtype == np.uint8 else 1.0
        values = inputs.astype(np.float32)
        values -= np.float32(mean * scale)
        values /= np.float32(std * scale)
        return values
    if inputs.dtype.kind in "iu":
        return inputs.astype(np.int64)
    raise DataError(f"inputs: Received the type {inputs.dtype}. Expected uint8, float or int.")


def split_by_class(targets: Array, share: float, seed: int) -> tuple[Array, Array]:
    """Holds out the same share of each class.

    Args:
        targets: The class of each example, shape [examples].
        share: How much to hold out, between 0 and 1.
        seed: Of the choice.

    Returns:
        The positions that stay and those that are held out, both ascending.

    Raises:
        ConfigError: If the share is not between 0 and 1, or leaves a class without an example.
    """
    if not 0 < share < 1:
        raise ConfigError(f"data.validation: Received {share}. Expected a share between 0 and 1.")
    random = np.random.default_rng(seed)
    held_out = np.zeros(len(targets), dtype=bool)
    for each in np.unique(targets):
        members = random.permutation(np.flatnonzero(targets == each))
        count = round(share * len(members))
        if not 0 < count < len(members):
            raise ConfigError(
                f"data.validation: Received {share}, which takes {count} of the {len(members)} "
                f"examples of class {each}.\nExpected a share that leaves some on both sides."
            )
        held_out[members[:count]] = True
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)
