"""Batches for PyTorch, from arrays in memory, a Dataset or a DataLoader.

The order of the examples is a function of the seed and the epoch alone, so that a run that goes
on in another process sees what it would have seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sized
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from dlsweep.data.base import Array, Data, Split, normalised
from dlsweep.errors import DataError


class Batches(Protocol):
    """What is passed over once an epoch.

    Attributes:
        examples: How many examples there are; None if that is not known beforehand.
    """

    examples: int | None

    def epoch(self, number: int) -> Iterator[Any]:
        """Yields the epoch's batches, on the device; the last may be smaller."""


class ArrayBatches:
    """Batches of tensors that lie on the device as a whole.

    Args:
        inputs: Shape [examples, ...].
        targets: Shape [examples, ...].
        size: The examples of a batch.
        seed: Of the order; None keeps the order that is.
    """

    def __init__(self, inputs: Tensor, targets: Tensor, size: int, seed: int | None) -> None:
        self.examples: int | None = len(inputs)
        self._inputs = inputs
        self._targets = targets
        self._size = size
        self._seed = seed

    def epoch(self, number: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields (inputs, targets)."""
        if self._seed is None:
            inputs, targets = (torch.split(t, self._size) for t in (self._inputs, self._targets))
            yield from zip(inputs, targets, strict=True)
            return
        order = torch.randperm(len(self._inputs), generator=_generator(self._seed, number))
        for positions in torch.split(order.to(self._inputs.device), self._size):
            yield self._inputs.index_select(0, positions), self._targets.index_select(0, positions)


class LoaderBatches:
    """Batches of a DataLoader, moved to the device.

    Args:
        loader: Yields tensors, or tuples, lists or dicts of them.
        device: Where they go.
        seed: Of the loader's and its sampler's generator in each epoch, in place of their own.
    """

    def __init__(self, loader: DataLoader[Any], device: torch.device, seed: int) -> None:
        self.examples = len(loader.dataset) if isinstance(loader.dataset, Sized) else None
        self._loader = loader
        self._device = device
        self._seed = seed

    def epoch(self, number: int) -> Iterator[Any]:
        """Yields what the loader yields."""
        generator = _generator(self._seed, number)
        self._loader.generator = generator
        if hasattr(self._loader.sampler, "generator"):
            self._loader.sampler.generator = generator
        for batch in self._loader:
            yield _moved(batch, self._device)


class OneBatch:
    """The first batch of the first epoch, in every epoch."""

    def __init__(self, batches: Batches) -> None:
        self._batch = next(batches.epoch(1))
        self.examples: int | None = size_of(self._batch)

    def epoch(self, number: int) -> Iterator[Any]:  # noqa: ARG002
        """Yields that batch."""
        yield self._batch


@dataclass(frozen=True)
class TorchData:
    """A data set, ready to train on.

    Attributes:
        train: In another order each epoch.
        validation: In the same order each epoch.
        record: What the run notes down about it, as plain JSON values.
    """

    train: Batches
    validation: Batches
    record: dict[str, Any]

    def one_batch(self) -> TorchData:
        """The first training batch alone, as training and as validation data."""
        only = OneBatch(self.train)
        return TorchData(only, only, self.record)


def prepare(found: object, batch_size: int, seed: int, device: torch.device) -> TorchData:
    """Makes batches of whatever ``data._target_`` returned.

    Args:
        found: A :class:`Data`, or a dict with ``train`` and ``validation``, each of them a pair of
            arrays (inputs, targets), a Dataset or a DataLoader.
        batch_size: The examples of a batch; a DataLoader has its own.
        seed: Of the order of the training examples.
        device: Where the batches go.

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
        name: _batches(name, parts[name], normalise, batch_size, seed, device)
        for name in ("train", "validation")
    }
    examples = {name: each.examples for name, each in batches.items()}
    return TorchData(**batches, record={"examples": examples, **record})


def _batches(
    name: str,
    part: object,
    normalise: Callable[[Array], Array],
    batch_size: int,
    seed: int,
    device: torch.device,
) -> Batches:
    shuffle = name == "train"
    if isinstance(part, tuple) and len(part) == 2:
        part = Split(np.asarray(part[0]), np.asarray(part[1]))
    if isinstance(part, Split):
        inputs = torch.from_numpy(normalise(part.inputs)).to(device)
        targets = torch.from_numpy(_typed(part.targets)).to(device)
        return ArrayBatches(inputs, targets, batch_size, seed if shuffle else None)
    if isinstance(part, Dataset):
        shuffle = shuffle and not isinstance(part, IterableDataset)
        part = DataLoader(part, batch_size, shuffle=shuffle)
    if isinstance(part, DataLoader):
        return LoaderBatches(part, device, seed)
    raise DataError(
        f"data[{name!r}]: Received {_described(part)}.\n"
        "Expected a pair of arrays (inputs, targets), a Dataset or a DataLoader."
    )


def _typed(targets: Array) -> Array:
    if targets.dtype.kind not in "fiub":
        raise DataError(f"targets: Received the type {targets.dtype}. Expected float or int.")
    return targets.astype(np.float32 if targets.dtype.kind == "f" else np.int64)


def size_of(batch: Any) -> int:
    """How many examples a batch has: the length of its first tensor.

    Raises:
        DataError: If it has no tensor.
    """
    for tensor in _tensors(batch):
        return len(tensor)
    raise DataError(f"data: Received a batch of {_described(batch)}. Expected tensors in it.")


def _tensors(batch: Any) -> Iterator[Tensor]:
    if isinstance(batch, Tensor):
        yield batch
    elif isinstance(batch, (Mapping, tuple, list)):
        for value in batch.values() if isinstance(batch, Mapping) else batch:
            yield from _tensors(value)


def _described(found: object) -> str:
    if isinstance(found, Mapping):
        return f"a dict with {', '.join(map(repr, found)) or 'nothing in it'}"
    return f"{type(found).__module__}.{type(found).__qualname__}"


def _moved(batch: Any, device: torch.device) -> Any:
    if isinstance(batch, Tensor):
        return batch.to(device, non_blocking=True)
    if isinstance(batch, Mapping):
        return {name: _moved(value, device) for name, value in batch.items()}
    if isinstance(batch, (tuple, list)):
        return tuple(_moved(value, device) for value in batch)
    return batch


def _generator(seed: int, epoch: int) -> torch.Generator:
    mixed = np.random.SeedSequence((seed, epoch)).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(mixed[0]))
