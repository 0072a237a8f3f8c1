"""Batches for Keras, from arrays in memory or what ``fit`` takes anyway.

The order of the examples is a function of the seed and the epoch alone, so that a run that goes
on in another process sees what it would have seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from dlsweep.data.base import Array, Data, Split, normalised
from dlsweep.errors import DataError


class Batches:
    """What is passed over once an epoch.

    Args:
        source: What ``fit`` takes as ``x``: it yields (inputs, targets).

    Attributes:
        source: As above.
        examples: How many examples there are; None if that is not known beforehand.
        targets: All of them, where they are in memory.
    """

    examples: int | None = None
    targets: Array | None = None

    def __init__(self, source: Any) -> None:
        self.source = source

    def __iter__(self) -> Iterator[Any]:
        """Yields the batches, for a training loop of one's own."""
        if isinstance(self.source, keras.utils.PyDataset):
            return (self.source[number] for number in range(len(self.source)))
        return iter(self.source)

    def shuffle(self, epoch: int) -> None:
        """Sets the order of an epoch; the sources of others have their own."""

    def spec(self) -> Any:
        """The shapes and types of a batch."""
        like = getattr(self.source, "element_spec", None) or self.source[0]
        return keras.tree.map_structure(
            lambda each: keras.KerasTensor(
                (None, *each.shape[1:]), keras.backend.standardize_dtype(each.dtype)
            ),
            like,
        )


class ArrayBatches(Batches):
    """Batches of arrays.

    Args:
        inputs: Shape [examples, ...].
        targets: Shape [examples, ...].
        size: The examples of a batch.
        seed: Of the order; None keeps the order that is.
    """

    def __init__(self, inputs: Array, targets: Array, size: int, seed: int | None) -> None:
        self.examples: int = len(targets)
        self.targets = targets
        self._seed = seed
        order = None if seed is None else np.arange(len(targets))
        if keras.config.backend() == "tensorflow":
            from dlsweep.data.tensorflow import sliced

            self._set_order, source = sliced(inputs, targets, size, order)
        else:
            source = _Slices(inputs, targets, size, order)
            self._set_order = source.set_order
        super().__init__(source)

    def shuffle(self, epoch: int) -> None:
        """Sets the order of an epoch."""
        if self._seed is not None:
            random = np.random.default_rng((self._seed, epoch))
            self._set_order(random.permutation(self.examples))


class _Slices(keras.utils.PyDataset):
    """Arrays cut into batches, for the backends that have no pipeline of their own."""

    def __init__(self, inputs: Array, targets: Array, size: int, order: Array | None) -> None:
        super().__init__()
        self._arrays = inputs, targets
        self._size = size
        self._order = order

    def set_order(self, order: Array) -> None:
        self._order = order

    def __len__(self) -> int:
        return -(-len(self._arrays[1]) // self._size)

    def __getitem__(self, number: int) -> tuple[Array, Array]:
        rows: Any = slice(number * self._size, (number + 1) * self._size)
        if self._order is not None:
            rows = self._order[rows]
        inputs, targets = self._arrays
        return inputs[rows], targets[rows]


@dataclass(frozen=True)
class KerasData:
    """A data set, ready to train on.

    Attributes:
        train: In another order each epoch.
        validation: In the same order each epoch.
        record: What the run notes down about it, as plain JSON values.
    """

    train: Batches
    validation: Batches
    record: dict[str, Any]


def prepare(found: object, batch_size: int, seed: int) -> KerasData:
    """Makes batches of whatever ``data._target_`` returned.

    Args:
        found: A :class:`Data`, or a dict with ``train`` and ``validation``, each of them a pair of
            arrays (inputs, targets), or a ``tf.data.Dataset`` or ``PyDataset`` of batches.
        batch_size: The examples of a batch; what yields batches has its own.
        seed: Of the order of the training examples.

    Raises:
        DataError: If it is something else.
    """
    if isinstance(found, Data):
        parts: Mapping[str, object] = {"train": found.train, "validation": found.validation}
        normalise, record = found.normalise, found.record
    elif isinstance(found, Mapping) and {"train", "validation"} <= found.keys():
        parts, normalise, record = found, normalised, {}
    else:
        raise DataError(
            f"data: Received {_described(found)}.\n"
            "Expected a dlsweep.data.Data, or a dict with 'train' and 'validation'."
        )
    batches = {
        name: _batches(name, parts[name], normalise, batch_size, seed)
        for name in ("train", "validation")
    }
    examples = {name: each.examples for name, each in batches.items()}
    return KerasData(**batches, record={"examples": examples, **record})


def _batches(
    name: str, part: object, normalise: Callable[[Array], Array], batch_size: int, seed: int
) -> Batches:
    if isinstance(part, tuple) and len(part) == 2:
        part = Split(np.asarray(part[0]), np.asarray(part[1]))
    if isinstance(part, Split):
        targets = _typed(part.targets)
        order_seed = seed if name == "train" else None
        return ArrayBatches(normalise(part.inputs), targets, batch_size, order_seed)
    if isinstance(part, keras.utils.PyDataset) or hasattr(part, "element_spec"):
        return Batches(part)
    raise DataError(
        f"data[{name!r}]: Received {_described(part)}.\n"
        "Expected a pair of arrays (inputs, targets), a tf.data.Dataset or a PyDataset."
    )


def _typed(targets: Array) -> Array:
    if targets.dtype.kind not in "fiub":
        raise DataError(f"targets: Received the type {targets.dtype}. Expected float or int.")
    return targets.astype(np.float32 if targets.dtype.kind == "f" else np.int64)


def _described(found: object) -> str:
    if isinstance(found, Mapping):
        return f"a dict with {', '.join(map(repr, found)) or 'nothing in it'}"
    return f"{type(found).__module__}.{type(found).__qualname__}"
