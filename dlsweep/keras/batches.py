"""Batches for Keras, from arrays in memory or what ``fit`` takes anyway.

The order of the examples is a function of the seed and the epoch alone, so that a run that goes
on in another process sees what it would have seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, TypeAlias

import keras
import numpy as np

from dlsweep.data.augmentation import Augmentation
from dlsweep.data.base import Array, Data, Split
from dlsweep.data.loader import Loader
from dlsweep.data.prepared import Prepared, prepared
from dlsweep.errors import DataError

_NO_WORKERS = Loader()


class Batches:
    """What is passed over once an epoch.

    Args:
        source: What ``fit`` takes as ``x``, and what yields (inputs, targets).

    Attributes:
        source: As above.
        examples: How many examples there are; None if that is not known beforehand.
        steps: How many batches an epoch has; None where one cannot begin in its middle.
    """

    examples: int | None = None
    steps: int | None = None

    def __init__(self, source: Any) -> None:
        self.source = source

    def __iter__(self) -> Iterator[Any]:
        """Yields the batches, for a training loop of one's own."""
        if isinstance(self.source, keras.utils.PyDataset):
            return (self.source[number] for number in range(len(self.source)))
        return iter(self.source)

    def begin(self, epoch: int, done: int = 0) -> None:
        """Arranges an epoch; a source of others arranges itself.

        Args:
            epoch: Its number.
            done: How many of its batches to leave out; as many empty ones come at its end, for
                Keras counts the batches once for all epochs.
        """

    def spec(self) -> Any:
        """The shapes and types of a batch, as symbolic tensors."""
        like = getattr(self.source, "element_spec", None) or self.source[0]

        def symbolic(array: Any) -> keras.KerasTensor:
            dtype = keras.backend.standardize_dtype(array.dtype)
            return keras.KerasTensor((None, *array.shape[1:]), dtype)

        return keras.tree.map_structure(symbolic, like)


class ArrayBatches(Batches):
    """Batches of arrays.

    Args:
        inputs: Shape [examples, ...], or several such arrays by name.
        targets: Shape [examples, ...].
        size: The examples of a batch.
        seed: Of the order and the augmentation; None keeps the order that is.
        augmentation: Of the inputs; nothing is done unless there is a seed.
        prefetch: Batches that are held ready.
    """

    def __init__(
        self,
        inputs: Any,
        targets: Array,
        size: int,
        seed: int | None = None,
        augmentation: Augmentation | None = None,
        prefetch: int = 2,
    ) -> None:
        self.examples: int = len(targets)
        self._inputs = inputs
        self._seed = seed
        self._augmentation = augmentation
        first = () if seed is None else self._arrangement(seed, 1)
        if keras.config.backend() == "tensorflow":
            from dlsweep.keras.pipeline import Pipeline

            pipeline = Pipeline(inputs, targets, size, prefetch, first)
            self._arrange, self._skip, source = pipeline.arrange, pipeline.skip, pipeline.dataset
            self.steps = -(-len(targets) // size)
        else:
            source = _Slices(inputs, targets, size, first)
            self._arrange = source.arrange
        super().__init__(source)

    def begin(self, epoch: int, done: int = 0) -> None:
        """Arranges an epoch."""
        if self._seed is not None:
            self._arrange(self._arrangement(self._seed, epoch))
        if self.steps:
            self._skip(done)

    def _arrangement(self, seed: int, epoch: int) -> tuple[Array, ...]:
        order = np.random.default_rng((seed, epoch)).permutation(self.examples)
        if not self._augmentation:
            return (order,)
        moves = self._augmentation.draw(seed, epoch, self._inputs.shape)
        return (order, *moves.origins(np.arange(self.examples)))


class _Slices(keras.utils.PyDataset):
    """Arrays cut into batches, for the backends that have no pipeline of their own."""

    def __init__(
        self, inputs: Any, targets: Array, size: int, arrangement: tuple[Array, ...]
    ) -> None:
        super().__init__()
        self._arrays = inputs, targets
        self._size = size
        self.arrange(arrangement)

    def arrange(self, arrangement: tuple[Array, ...]) -> None:
        self._arrangement = arrangement

    def __len__(self) -> int:
        return -(-len(self._arrays[1]) // self._size)

    def __getitem__(self, number: int) -> Any:
        rows: Any = slice(number * self._size, (number + 1) * self._size)
        if self._arrangement:
            rows = self._arrangement[0][rows]
        inputs, targets = keras.tree.map_structure(lambda array: array[rows], self._arrays)
        for axis, origin in zip((-2, -1), self._arrangement[1:], strict=False):
            inputs = np.take_along_axis(inputs, origin[rows], axis)
        return inputs, targets


#: A data set in Keras's batches.
KerasData: TypeAlias = Prepared[Batches]


def one_batch(data: KerasData) -> KerasData:
    """The first training batch alone, as training and as validation data."""
    inputs, targets = keras.tree.map_structure(np.asarray, next(iter(data.train)))
    only = ArrayBatches(inputs, targets, len(targets))
    return Prepared[Batches](only, only, None, data.record)


def prepare(found: object, batch_size: int, seed: int, loader: Loader = _NO_WORKERS) -> KerasData:
    """Makes batches of whatever ``data._target_`` returned.

    Args:
        found: A :class:`dlsweep.data.Data`, or a dict with ``train`` and ``validation`` (and
            maybe ``test``), each of them a pair of arrays (inputs, targets), or a
            ``tf.data.Dataset`` or ``PyDataset`` of batches. A ``PyDataset`` has its own workers.
        batch_size: The examples of a batch; what yields batches has its own.
        seed: Of the order of the training examples.
        loader: How far to read ahead.

    Raises:
        ConfigError: If a batch is larger than the training data.
        DataError: If it is something else.
    """

    def from_arrays(split: Split, data: Data, is_train: bool) -> Batches:
        return ArrayBatches(
            data.normalise(split.inputs),
            split.targets,
            batch_size,
            seed if is_train else None,
            data.augmentation,
            loader.prefetch,
        )

    def from_others(part: object, is_train: bool) -> Batches | None:  # noqa: ARG001
        specs = getattr(part, "element_spec", None)
        if specs is None and not isinstance(part, keras.utils.PyDataset):
            return None
        if any(one.shape.rank == 0 for one in keras.tree.flatten(specs or ())):
            raise DataError(
                "data: Received a tf.data.Dataset of single examples. Expected one of batches.\n"
                f"Append  .batch({batch_size})  to it."
            )
        return Batches(part)

    data = prepared(found, batch_size, from_arrays, from_others, "a tf.data.Dataset or a PyDataset")
    shape = keras.tree.map_structure(lambda spec: list(spec.shape[1:]), data.train.spec()[0])
    return replace(data, record={"input_shape": shape, **data.record})
