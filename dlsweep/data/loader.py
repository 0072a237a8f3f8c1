"""Options for loading data that is not in memory."""

from __future__ import annotations

from dataclasses import dataclass

from dlsweep.errors import ConfigError


@dataclass(frozen=True)
class Loader:
    """Options for reading a data set batch by batch; data in memory ignores them.

    Attributes:
        workers: The number of processes that read; 0 reads in the training process.
        prefetch: The number of batches that each worker reads ahead.
        persistent_workers: Whether workers stay alive between epochs (PyTorch).
        pin_memory: Whether batches are in pinned memory if there is a GPU (PyTorch).

    Raises:
        ConfigError: If a number is out of range.
    """

    workers: int = 0
    prefetch: int = 2
    persistent_workers: bool = True
    pin_memory: bool = True

    def __post_init__(self) -> None:
        for name, least in (("workers", 0), ("prefetch", 1)):
            if getattr(self, name) < least:
                raise ConfigError(
                    f"training.loader.{name}: Received {getattr(self, name)}. "
                    f"Expected {least} or more."
                )
