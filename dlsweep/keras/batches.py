"""Batches for Keras, from arrays in memory, a ``tf.data.Dataset`` or a ``PyDataset``.

The order of the examples depends only on the seed and the epoch, so a resumed run sees the same
batches.
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
    """Batches of a data set.

    Args:
        source: An object that ``fit`` accepts as ``x`` and that yields (inputs, targets).

    Attributes:
        source: As above.
        examples: The number of examples; None if it is unknown.
        steps: The number of batches in an epoch; None if an epoch cannot be resumed.
    """

    examples: int | None = None
    steps: int | None = None

    def __init__(self, source: Any) -> None:
        self.source = source

    def __iter__(self) -> Iterator[Any]:
        """Yields the batches, for a custom training loop."""
        if isinstance(self.source, keras.utils.PyDataset):
            return (self.source[number] for number in range(len(self.source)))
        return iter(self.source)

    def begin(self, epoch: int, done: int = 0) -> None:
        """Sets the order of an epoch; a source from elsewhere has its own.

        Args:
            epoch: Its number.
            done: The number of batches to skip. The same number of empty batches follows at its
                end, because Keras counts an epoch's batches only once.
        """

    def spec(self) -> Any:
        """Returns the shapes and types of a batch as symbolic tensors."""
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
        size: The number of examples in a batch.
        seed: The seed of order and augmentation; None keeps the given order.
        augmentation: The augmentation of the inputs; needs a seed.
        prefetch: The number of batches to read ahead.
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
        """Sets the order and augmentation of an epoch."""
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
    """Slices arrays into batches, for backends other than TensorFlow."""

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


#: A data set in batches for Keras.
KerasData: TypeAlias = Prepared[Batches]


def one_batch(data: KerasData) -> KerasData:
    """Returns a data set with only the first training batch, for training and validation."""
    inputs, targets = keras.tree.map_structure(np.asarray, next(iter(data.train)))
    only = ArrayBatches(inputs, targets, len(targets))
    return Prepared[Batches](only, only, None, data.record)


def prepare(found: object, batch_size: int, seed: int, loader: Loader = _NO_WORKERS) -> KerasData:
    """Makes batches from the result of ``data._target_``.

    Args:
        found: A :class:`dlsweep.data.Data`, or a dict with ``train`` and ``validation`` (and
            maybe ``test``), each a pair of arrays (inputs, targets), or a ``tf.data.Dataset`` or
            ``PyDataset`` of batches. A ``PyDataset`` has its own workers.
        batch_size: The number of examples in a batch; a source of batches has its own.
        seed: The seed of the order of the training examples.
        loader: How far to read ahead.

    Raises:
        ConfigError: If a batch is larger than the training data.
        DataError: If ``found`` is something else.
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
