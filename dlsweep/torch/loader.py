"""A DataLoader whose order and random numbers are functions of seed, epoch and batch alone.

So a run that goes on in another process, or with another number of workers, sees what it would
have seen.
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
    """Makes the DataLoader of a Dataset.

    Args:
        dataset: One with a length and ``__getitem__``, or a stream, which keeps its own order.
        batch_size: The examples of a batch; the last may be smaller.
        seed: Of the order, and of what the dataset draws from Python, NumPy and PyTorch.
        shuffle: Whether the order is another in each epoch.
        options: How it is read.
        pinned: Whether there is a GPU to copy to.
        **more: Of DataLoader itself.
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
    """Which part of each batch a process has, of several that train together.

    Attributes:
        rank: The process's number, from 0.
        ranks: How many there are.
    """

    rank: int = 0
    ranks: int = 1

    def size(self, whole: int) -> int:
        """How many examples of a batch it has."""
        return whole // self.ranks + (self.rank < whole % self.ranks)

    def of(self, rows: torch.Tensor) -> torch.Tensor:
        """Its rows; the first one where there are too few, as each must have some."""
        return rows.tensor_split(self.ranks)[self.rank] if self.size(len(rows)) else rows[:1]


WHOLE = Part()


class SeededBatches(Sampler[tuple[int, list[int]]]):
    """Yields, for each batch, the seed of its random numbers and the positions of its examples.

    Attributes:
        epoch: Whose batches come next; counted from 1.
        part: Of each batch.
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
        """The examples of each whole batch."""
        starts = range(0, self._examples, self._size)
        return [min(self._size, self._examples - start) for start in starts]

    def __iter__(self) -> Iterator[tuple[int, list[int]]]:
        order = torch.arange(self._examples)
        if self._shuffle:
            order = torch.randperm(self._examples, generator=generator(self._seed, self.epoch))
        for number, rows in enumerate(torch.split(order, self._size)):
            stream: tuple[int, ...] = (self._seed, self.epoch, number, int(self._shuffle))
            if self.part.rank:  # so that no two processes draw the same
                stream += (self.part.rank,)
            seed = np.random.SeedSequence(stream).generate_state(1)[0]
            yield int(seed), self.part.of(rows).tolist()


def generator(seed: int, epoch: int) -> torch.Generator:
    """Random numbers of an epoch, whatever was drawn before it."""
    mixed = np.random.SeedSequence((seed, epoch)).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(mixed[0]))


class _Seeded(Dataset[Any]):
    """Examples drawn batch by batch, with random numbers of the batch's own."""

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
    """Global random numbers from a seed; those of before go on behind."""
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
