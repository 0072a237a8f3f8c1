"""Divides batches between the processes of a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from torch import Tensor

from dlsweep.errors import DataError
from dlsweep.torch.batches import Batches, LoaderBatches, size_of
from dlsweep.torch.loader import WHOLE, Part


class Share(NamedTuple):
    """A process's share of a batch.

    Attributes:
        batch: Its examples; with fewer examples than processes, one that does not count.
        size: The number of examples that count.
        whole: The number of examples in the whole batch.
    """

    batch: Any
    size: int
    whole: int


def shares(batches: Batches, epoch: int, part: Part = WHOLE) -> Iterator[Share]:
    """Yields a process's shares of an epoch's batches, in order.

    Each process reads only its own examples of a Dataset. Other sources yield whole batches, and
    the process takes its share.

    Raises:
        DataError: If the source may yield other batches in each process.
    """
    if part.ranks > 1 and isinstance(batches, LoaderBatches):
        if batches.is_stream:
            raise DataError(
                f"data: Received a stream, to be shared by {part.ranks} processes, each of which "
                "would see all of it.\nExpected a Dataset with a length. Type  training.replicas=1"
            )
        if sizes := batches.sizes:
            for batch, whole in zip(batches.epoch(epoch, part), sizes, strict=True):
                yield Share(batch, part.size(whole), whole)
            return
    for batch in batches.epoch(epoch):
        whole = size_of(batch)
        yield Share(_cut(batch, part, whole), part.size(whole), whole)


def _cut(batch: Any, part: Part, whole: int) -> Any:
    if part.ranks == 1:
        return batch
    if isinstance(batch, Tensor):
        return part.of(batch) if batch.ndim and len(batch) == whole else batch
    if isinstance(batch, Mapping):
        return {name: _cut(value, part, whole) for name, value in batch.items()}
    if isinstance(batch, (tuple, list)):
        return tuple(_cut(value, part, whole) for value in batch)
    return batch
