"""Data sets in memory: splits of arrays, and the normalization of their inputs.

Images have the shape [channels, height, width] or [height, width], in every framework.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dlsweep.data.augmentation import Augmentation
from dlsweep.data.schema import Column, schema_of
from dlsweep.errors import ConfigError, DataError

Array: TypeAlias = NDArray[Any]
#: One array, or several by name for a model of several inputs.
Inputs: TypeAlias = Array | Mapping[str, Array]


@dataclass(frozen=True)
class Split:
    """The examples of one part of a data set, such as the training data.

    Attributes:
        inputs: Shape [examples, ...]: uint8 pixels, floats, or integers such as token ids; for a
            model of several inputs, such arrays by name.
        targets: Shape [examples, ...]: classes as integers, or values as floats.

    Raises:
        DataError: If there are no examples, or the number of targets differs.
    """

    inputs: Inputs
    targets: Array

    def __post_init__(self) -> None:
        arrays = self.inputs.values() if isinstance(self.inputs, Mapping) else [self.inputs]
        for count in map(len, arrays):
            if not 0 < count == len(self.targets):
                raise DataError(
                    f"Received {count} inputs and {len(self.targets)} targets. "
                    "Expected at least one example, and as many targets as inputs."
                )

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def shape(self) -> Any:
        """The shape of one input as a list, or of several inputs by name."""
        return each(self.inputs, lambda array: list(array.shape[1:]))


def each(inputs: Any, do: Callable[[Any], Any]) -> Any:
    """Applies a function to an input, or to each of several inputs by name."""
    if isinstance(inputs, Mapping):
        return {name: do(array) for name, array in inputs.items()}
    return do(inputs)


def by_name(inputs: Any) -> dict[str, Any]:
    """Returns several inputs by name; the only one has the name ``inputs``."""
    return dict(inputs) if isinstance(inputs, Mapping) else {"inputs": inputs}


@dataclass(frozen=True)
class Data:
    """A data set in memory.

    Attributes:
        train: The training data.
        validation: The validation data, evaluated after each epoch.
        test: The test data, evaluated once at the end, if there is some.
        mean: The mean of the training inputs; of uint8 inputs, after scaling them to 0..1. A
            number, or an array that broadcasts to one input: [channels, 1, 1] or [columns].
        std: The standard deviation of the training inputs, in the same form.
        target_mean: The mean of float targets, likewise; a model is trained on standardized
            targets, and its metrics, predictions and exports are in the targets' own units.
        target_std: The standard deviation of the training targets, in the same form.
        classes: The number of classes; None counts them in the targets.
        augmentation: The augmentation of the training inputs.
        columns: For a table: its columns, in the order of the inputs that encode them.
        record: What the run stores about its data, as plain JSON values.

    Raises:
        DataError: If mean or deviation do not fit the inputs, a target is not one of the classes,
            or there is augmentation and the inputs are not images.
    """

    train: Split
    validation: Split
    test: Split | None = None
    mean: ArrayLike = 0.0
    std: ArrayLike = 1.0
    target_mean: ArrayLike = 0.0
    target_std: ArrayLike = 1.0
    classes: int | None = None
    augmentation: Augmentation = field(default_factory=Augmentation)
    columns: Sequence[Column] = ()
    record: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, std in (("std", self.std), ("target_std", self.target_std)):
            if not np.all(np.asarray(std) > 0):
                raise DataError(f"{name}: Received {std}. Expected numbers above 0.")
        each(self.train.shape, self._check_shape)
        self._check_target_scale()
        _check_labels(self._targets(), self.classes)

    def normalise(self, inputs: Any) -> Any:
        """Normalizes inputs for the model; see :func:`normalised`."""
        return each(inputs, lambda array: normalised(array, self.mean, self.std))

    def standardise(self, targets: Array) -> Array:
        """Returns the targets to train on: standardized, if the data set has their statistics."""
        if not self.standardises:
            return targets
        values = (targets - np.asarray(self.target_mean)) / np.asarray(self.target_std)
        return np.asarray(values, np.float32)

    @property
    def standardises(self) -> bool:
        """Whether a model is trained on standardized targets."""
        return bool(np.any(self.target_mean) or np.any(np.asarray(self.target_std) != 1))

    def facts(self) -> dict[str, Any]:
        """Returns what a model and an export need to know of the data, as plain JSON values.

        Returns:
            ``input_shape``, ``input_dtype``, ``classes`` (for float targets: the number of values
            of one target), ``mean``, ``std`` and ``schema``; see
            :func:`dlsweep.data.schema.schema_of`. For standardized targets, also ``target_mean``
            and ``target_std``.
        """
        targets = self.train.targets
        found = math.prod(targets.shape[1:])
        if targets.dtype.kind in "iub":
            found = self.classes or 1 + max(int(each.max()) for each in self._targets())
        return {
            "input_shape": self.train.shape,
            "input_dtype": each(self.train.inputs, lambda array: str(array.dtype)),
            "classes": found,
            "mean": np.asarray(self.mean).tolist(),
            "std": np.asarray(self.std).tolist(),
            "schema": schema_of(by_name(self.train.inputs), self.columns),
            **(self._target_scale() if self.standardises else {}),
        }

    def _target_scale(self) -> dict[str, Any]:
        return {
            "target_mean": np.asarray(self.target_mean).tolist(),
            "target_std": np.asarray(self.target_std).tolist(),
        }

    def _check_shape(self, shape: list[int]) -> None:
        for name, value in (("mean", self.mean), ("std", self.std)):
            _check_broadcast(name, value, "an input", shape)
        self.augmentation.check(shape)

    def _check_target_scale(self) -> None:
        targets = self.train.targets
        if self.standardises and targets.dtype.kind != "f":
            raise DataError(
                f"target_mean, target_std: Received them with targets of the type {targets.dtype}. "
                "Expected floats: classes are not standardized."
            )
        for name, value in (("target_mean", self.target_mean), ("target_std", self.target_std)):
            _check_broadcast(name, value, "a target", list(targets.shape[1:]))

    def _targets(self) -> list[Array]:
        splits = (self.train, self.validation, self.test)
        return [split.targets for split in splits if split is not None]


def _check_broadcast(name: str, value: ArrayLike, what: str, shape: list[int]) -> None:
    try:
        fits = not np.ndim(value) or list(np.broadcast_shapes(np.shape(value), shape)) == shape
    except ValueError:  # there is no common shape
        fits = False
    if not fits:
        raise DataError(
            f"{name}: Received the shape {list(np.shape(value))}. "
            f"Expected one that broadcasts to {what} of {shape}."
        )


def as_split(pair: tuple[Any, Any]) -> Split:
    """Converts a pair (inputs, targets) to a split of arrays.

    Raises:
        DataError: If examples are sequences of unequal length, or as in :class:`Split`.
    """
    inputs, targets = pair
    try:
        return Split(each(inputs, np.asarray), np.asarray(targets))
    except ValueError as error:
        if "inhomogeneous" not in str(error):
            raise
        raise DataError(
            "data: Received examples of unequal length, such as sentences of several words. "
            "Expected one shape.\nPad them to the longest, and give the model a mask; or return a "
            "dataset that pads each batch."
        ) from None


def as_data(found: object) -> Data | None:
    """Converts the result of ``data._target_`` to Data if it is in memory; else returns None.

    Args:
        found: A :class:`Data`, or a dict with ``train`` and ``validation`` (and maybe ``test``),
            each a pair of arrays (inputs, targets).
    """
    if isinstance(found, Data):
        return found
    if not isinstance(found, Mapping) or not {"train", "validation"} <= found.keys():
        return None
    parts = [found[name] for name in ("train", "validation", "test") if name in found]
    if not all(isinstance(part, tuple) and len(part) == 2 for part in parts):
        return None
    splits = [as_split(pair) for pair in parts]
    return Data(splits[0], splits[1], splits[2] if len(splits) > 2 else None)


def check_batch(batch_size: int, examples: int) -> None:
    """Raises ConfigError if a batch is larger than the training data."""
    if batch_size > examples:
        raise ConfigError(
            f"training.batch_size: Received {batch_size}, and there are {examples} examples to "
            f"train on.\nType  training.batch_size={examples}  or less."
        )


def _check_labels(parts: list[Array], classes: int | None) -> None:
    for labels in parts:
        if labels.dtype.kind not in "iub":
            continue
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or (classes is not None and high >= classes):
            raise DataError(
                f"targets: Received labels from {low} to {high}. "
                f"Expected 0 to {'the number of classes' if classes is None else classes} - 1."
            )


def normalised(inputs: Array, mean: ArrayLike = 0.0, std: ArrayLike = 1.0) -> Array:
    """Returns normalized inputs, in a type that models take.

    Args:
        inputs: uint8 pixels, floats, or integers such as token ids.
        mean: The mean of floats, or of pixels scaled to 0..1; broadcasts to one input.
        std: The standard deviation, in the same form.

    Returns:
        (inputs - mean) / std as float32; integers as int64, without normalization.

    Raises:
        DataError: If the inputs are not numbers.
    """
    if inputs.dtype == np.uint8 or inputs.dtype.kind == "f":
        scale = 255.0 if inputs.dtype == np.uint8 else 1.0
        values = inputs.astype(np.float32)
        values -= np.asarray(np.multiply(mean, scale), np.float32)
        values /= np.asarray(np.multiply(std, scale), np.float32)
        return values
    if inputs.dtype.kind in "iu":
        return inputs.astype(np.int64)
    raise DataError(f"inputs: Received the type {inputs.dtype}. Expected uint8, float or int.")


def split_by_class(targets: Array, share: float, seed: int) -> tuple[Array, Array]:
    """Holds out the same share of each class.

    Args:
        targets: The class of each example, shape [examples].
        share: The share to hold out, between 0 and 1.
        seed: The seed of the choice.

    Returns:
        The positions of the other examples and of those held out, both ascending.

    Raises:
        ConfigError: If the share is not between 0 and 1, or a class has no example left.
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


def split_at_random(targets: Array, share: float, seed: int) -> tuple[Array, Array]:
    """Holds out a share of all examples; see :func:`split_by_class`."""
    count = round(share * len(targets))
    if not 0 < count < len(targets):
        raise ConfigError(
            f"data.validation: Received {share}, which takes {count} of {len(targets)} examples."
            "\nExpected a share that leaves some on both sides."
        )
    order = np.random.default_rng(seed).permutation(len(targets))
    return np.sort(order[count:]), np.sort(order[:count])
