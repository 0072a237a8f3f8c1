"""A DataLoader whose order and random numbers depend only on seed, epoch and batch.

So a resumed run sees the same batches, also with another number of workers.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sized
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, Sampler

from dlsweep.data.loader import Loader


def seeded_loader(
    dataset: Dataset[Any],
    batch_size: int,
    seed: int,
    shuffle: bool,
    options: Loader,
    pinned: bool,
    **more: Any,
) -> DataLoader[Any]:
    """Makes a DataLoader for a Dataset.

    Args:
        dataset: A data set with a length and ``__getitem__``, or a stream, which has its own order.
        batch_size: The number of examples in a batch; the last may be smaller.
        seed: The seed of the order, and of Python's, NumPy's and PyTorch's random numbers.
        shuffle: Whether each epoch has another order.
        options: Options for reading.
        pinned: Whether there is a GPU to copy to.
        **more: Further arguments of DataLoader.
    """
    if options.workers:
        more["prefetch_factor"] = options.prefetch
        more["persistent_workers"] = options.persistent_workers
    more["num_workers"] = options.workers
    more["pin_memory"] = options.pin_memory and pinned
    if isinstance(dataset, IterableDataset):
        return DataLoader(dataset, batch_size, **more)
    batches = SeededBatches(len(cast(Sized, dataset)), batch_size, seed, shuffle)
    return DataLoader(_Seeded(dataset), batch_sampler=cast(Any, batches), **more)


@dataclass(frozen=True)
class Part:
    """The part of each batch that one of several processes trains on.

    Attributes:
        rank: The rank of the process, from 0.
        ranks: The number of processes.
    """

    rank: int = 0
    ranks: int = 1

    def size(self, whole: int) -> int:
        """Returns the number of examples of a batch in this part."""
        return whole // self.ranks + (self.rank < whole % self.ranks)

    def of(self, rows: torch.Tensor) -> torch.Tensor:
        """Returns the rows of this part; the first row if there are too few for all parts."""
        return rows.tensor_split(self.ranks)[self.rank] if self.size(len(rows)) else rows[:1]


WHOLE = Part()


class SeededBatches(Sampler[tuple[int, list[int]]]):
    """Yields, for each batch, the seed of its random numbers and the positions of its examples.

    Attributes:
        epoch: The next epoch, counted from 1.
        part: The part of each batch.
    """

    def __init__(self, examples: int, size: int, seed: int, shuffle: bool) -> None:
        self.epoch = 1
        self.part = WHOLE
        self._examples = examples
        self._size = size
        self._seed = seed
        self._shuffle = shuffle

    def __len__(self) -> int:
        return len(self.sizes)

    @property
    def sizes(self) -> list[int]:
        """The number of examples in each whole batch."""
        starts = range(0, self._examples, self._size)
        return [min(self._size, self._examples - start) for start in starts]

    def __iter__(self) -> Iterator[tuple[int, list[int]]]:
        order = torch.arange(self._examples)
        if self._shuffle:
            order = torch.randperm(self._examples, generator=generator(self._seed, self.epoch))
        for number, rows in enumerate(torch.split(order, self._size)):
            stream: tuple[int, ...] = (self._seed, self.epoch, number, int(self._shuffle))
            if self.part.rank:  # each process draws other numbers
                stream += (self.part.rank,)
            seed = np.random.SeedSequence(stream).generate_state(1)[0]
            yield int(seed), self.part.of(rows).tolist()


def generator(seed: int, epoch: int) -> torch.Generator:
    """Returns the random generator of an epoch, independent of earlier draws."""
    mixed = np.random.SeedSequence((seed, epoch)).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(mixed[0]))


class _Seeded(Dataset[Any]):
    """Reads a batch of examples with the batch's own random numbers."""

    def __init__(self, dataset: Dataset[Any]) -> None:
        self._dataset = dataset

    def __len__(self) -> int:
        return len(cast(Sized, self._dataset))

    def __getitems__(self, asked: tuple[int, list[int]]) -> Any:
        seed, rows = asked
        with _random_numbers(seed):
            if hasattr(self._dataset, "__getitems__"):
                return self._dataset.__getitems__(rows)
            return [self._dataset[row] for row in rows]


@contextmanager
def _random_numbers(seed: int) -> Iterator[None]:
    """Seeds the global random generators, and restores their states afterwards."""
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(seed)
    np.random.seed(seed)
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])
