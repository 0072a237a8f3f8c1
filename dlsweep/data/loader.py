"""How data that does not lie in memory is read while a model trains."""

from __future__ import annotations

from dataclasses import dataclass

from dlsweep.errors import ConfigError


@dataclass(frozen=True)
class Loader:
    """How a data set is read batch by batch; data in memory needs none of it.

    Attributes:
        workers: Processes that read beside the training; 0 reads in the training's own.
        prefetch: Batches that each of them holds ready.
        persistent_workers: Whether they live on from epoch to epoch (PyTorch).
        pin_memory: Whether batches wait in memory that a GPU can copy from by itself (PyTorch).

    Raises:
        ConfigError: If a number is out of its range.
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
