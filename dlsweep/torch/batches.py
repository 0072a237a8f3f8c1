"""Batches for PyTorch, from arrays in memory, a Dataset or a DataLoader.

The order of the examples depends only on the seed and the epoch, so a resumed run sees the same
batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sized
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from dlsweep.data.augmentation import Augmentation
from dlsweep.data.base import Array, Data, Split, each
from dlsweep.data.loader import Loader
from dlsweep.data.prepared import Prepared, described, prepared
from dlsweep.errors import DataError
from dlsweep.torch.loader import WHOLE, Part, SeededBatches, generator, seeded_loader

_NO_WORKERS = Loader()
#: The limit in bytes above which pixels stay uint8, a quarter of their size as floats.
_MOST_FLOATS = 1 << 30


class Batches(Protocol):
    """Batches of a data set.

    Attributes:
        examples: The number of examples; None if it is unknown.
    """

    examples: int | None

    def epoch(self, number: int) -> Iterator[Any]:
        """Yields an epoch's batches on the device; the last may be smaller."""


class ArrayBatches:
    """Batches of tensors that are on the device as a whole.

    Args:
        inputs: Shape [examples, ...].
        targets: Shape [examples, ...].
        size: The number of examples in a batch.
        seed: The seed of order and augmentation; None keeps the given order.
        augmentation: The augmentation of the inputs; needs a seed.
        finish: Converts a batch's inputs for the model.
    """

    def __init__(
        self,
        inputs: Tensor,
        targets: Tensor,
        size: int,
        seed: int | None,
        augmentation: Augmentation,
        finish: Callable[[Tensor], Tensor],
    ) -> None:
        self.examples: int | None = len(inputs)
        self._inputs = inputs
        self._targets = targets
        self._size = size
        self._seed = seed
        self._augmentation = augmentation
        self._finish = finish

    def epoch(self, number: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields (inputs, targets)."""
        if self._seed is None:
            parts = (torch.split(each, self._size) for each in (self._inputs, self._targets))
            for inputs, targets in zip(*parts, strict=True):
                yield self._finish(inputs), targets
            return
        order = torch.randperm(len(self._inputs), generator=generator(self._seed, number))
        moves = None
        if self._augmentation:
            moves = self._augmentation.draw(self._seed, number, self._inputs.shape)
        for rows in torch.split(order, self._size):
            here = rows.to(self._inputs.device)
            batch = self._inputs.index_select(0, here)
            if moves:
                batch = _moved_pixels(batch, moves.origins(rows.numpy()))
            yield self._finish(batch), self._targets.index_select(0, here)


class LoaderBatches:
    """Batches of a DataLoader, moved to the device.

    The generators of a user's DataLoader and its sampler are seeded by seed and epoch. With
    ``persistent_workers``, its workers' random numbers still depend on earlier epochs. Pass the
    Dataset instead, so that ``training.loader`` reads it.

    Args:
        loader: Yields tensors, or tuples, lists or dicts of them.
        device: The device.
        seed: The seed.
    """

    def __init__(self, loader: DataLoader[Any], device: torch.device, seed: int) -> None:
        self.examples = len(loader.dataset) if isinstance(loader.dataset, Sized) else None
        self._loader = loader
        self._device = device
        self._seed = seed

    @property
    def is_stream(self) -> bool:
        """Whether the data set is a stream, which has its own order."""
        return isinstance(self._loader.dataset, IterableDataset)

    @property
    def sizes(self) -> list[int]:
        """The size of each batch; empty if a process cannot read only its part of a batch."""
        batches = self._loader.batch_sampler
        return batches.sizes if isinstance(batches, SeededBatches) else []

    def epoch(self, number: int, part: Part = WHOLE) -> Iterator[Any]:
        """Yields the loader's batches; with :attr:`sizes`, only this process's part of each."""
        random = generator(self._seed, number)
        self._loader.generator = random
        if isinstance(self._loader.batch_sampler, SeededBatches):
            self._loader.batch_sampler.epoch = number
            self._loader.batch_sampler.part = part
        elif hasattr(self._loader.sampler, "generator"):
            self._loader.sampler.generator = random
        for batch in self._loader:
            yield _moved(batch, self._device)


class NamedBatches:
    """Batches of several inputs by name, all in the same order."""

    def __init__(self, inputs: Mapping[str, Batches]) -> None:
        self._inputs = inputs
        self.examples = next(iter(inputs.values())).examples

    def epoch(self, number: int) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
        """Yields (inputs by name, targets)."""
        for group in zip(*(one.epoch(number) for one in self._inputs.values()), strict=True):
            inputs, targets = zip(*group, strict=True)
            yield dict(zip(self._inputs, inputs, strict=True)), targets[0]


class OneBatch:
    """The first batch of the first epoch, in every epoch."""

    def __init__(self, batches: Batches) -> None:
        self._batch = next(batches.epoch(1))
        self.examples: int | None = size_of(self._batch)

    def epoch(self, number: int) -> Iterator[Any]:  # noqa: ARG002
        """Yields that batch."""
        yield self._batch


#: A data set in batches for PyTorch.
TorchData: TypeAlias = Prepared[Batches]


def one_batch(data: TorchData) -> TorchData:
    """Returns a data set with only the first training batch, for training and validation."""
    only = OneBatch(data.train)
    return Prepared[Batches](only, only, None, data.record)


def prepare(
    found: object,
    batch_size: int,
    seed: int,
    device: torch.device,
    loader: Loader = _NO_WORKERS,
) -> TorchData:
    """Makes batches from the result of ``data._target_``.

    Args:
        found: A :class:`Data`, or a dict with ``train`` and ``validation`` (and maybe ``test``),
            each a pair of arrays (inputs, targets), a Dataset or a DataLoader.
        batch_size: The number of examples in a batch; a DataLoader has its own.
        seed: The seed of the order of the training examples.
        device: The device of the batches.
        loader: Options for reading a Dataset.

    Raises:
        ConfigError: If a batch is larger than the training data.
        DataError: If ``found`` is something else.
    """

    def from_arrays(split: Split, data: Data, is_train: bool) -> Batches:
        targets = torch.from_numpy(split.targets).to(device)
        order = seed if is_train else None
        made = each(
            split.inputs, lambda inputs: _on_device(inputs, targets, data, batch_size, order)
        )
        return NamedBatches(made) if isinstance(made, Mapping) else made

    def from_others(part: object, is_train: bool) -> Batches | None:
        if isinstance(part, Dataset):
            pinned = device.type == "cuda"
            part = seeded_loader(part, batch_size, seed, is_train, loader, pinned)
        return LoaderBatches(part, device, seed) if isinstance(part, DataLoader) else None

    return prepared(found, batch_size, from_arrays, from_others, "a Dataset or a DataLoader")


def _on_device(
    inputs: Array, targets: Tensor, data: Data, batch_size: int, seed: int | None
) -> ArrayBatches:
    finish: Callable[[Tensor], Tensor] = _as_it_is
    if inputs.dtype == np.uint8 and inputs.size * 4 > _MOST_FLOATS:
        inputs, finish = np.require(inputs, requirements="W"), _normaliser(data, targets.device)
    else:
        inputs = data.normalise(inputs)
    moved = torch.from_numpy(inputs).to(targets.device)
    return ArrayBatches(moved, targets, batch_size, seed, data.augmentation, finish)


def _as_it_is(inputs: Tensor) -> Tensor:
    return inputs


def _normaliser(data: Data, device: torch.device) -> Callable[[Tensor], Tensor]:
    """Returns a function that normalizes pixels by batch, to the same bits as Data.normalise."""
    mean, std = (
        torch.from_numpy(np.asarray(np.multiply(value, 255.0), np.float32)).to(device)
        for value in (data.mean, data.std)
    )
    return lambda pixels: pixels.to(torch.float32).sub_(mean).div_(std)


def size_of(batch: Any) -> int:
    """Returns the number of examples in a batch: the length of its first tensor.

    Raises:
        DataError: If it has no tensor.
    """
    for tensor in _tensors(batch):
        return len(tensor)
    raise DataError(f"data: Received a batch of {described(batch)}. Expected tensors in it.")


def _tensors(batch: Any) -> Iterator[Tensor]:
    if isinstance(batch, Tensor):
        yield batch
    elif isinstance(batch, (Mapping, tuple, list)):
        for value in batch.values() if isinstance(batch, Mapping) else batch:
            yield from _tensors(value)


def _moved(batch: Any, device: torch.device) -> Any:
    if isinstance(batch, Tensor):
        return batch.to(device, non_blocking=True)
    if isinstance(batch, Mapping):
        return {name: _moved(value, device) for name, value in batch.items()}
    if isinstance(batch, (tuple, list)):
        return tuple(_moved(value, device) for value in batch)
    return batch


def _moved_pixels(images: Tensor, origins: tuple[Array, Array]) -> Tensor:
    y, x = (torch.from_numpy(each).to(images.device, non_blocking=True) for each in origins)
    return images.take_along_dim(y, -2).take_along_dim(x, -1)
