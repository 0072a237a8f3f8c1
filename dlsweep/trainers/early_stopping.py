"""How well a training is going, epoch by epoch, and whether to go on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from dlsweep.errors import ConfigError

Mode = Literal["min", "max"]


@dataclass(frozen=True)
class EarlyStopping:
    """Ends a training whose monitored metric no longer improves.

    Attributes:
        patience: How many epochs in a row may pass without improvement; None for any number.
        min_delta: What an improvement must exceed to count as one.
        restore_best_weights: Whether the model in memory ends with the weights of the best epoch,
            for callbacks and for a trainer's subclass. The run's result and its best checkpoint
            are those of the best epoch either way.

    Raises:
        ConfigError: If the patience is below 1, or the delta negative.
    """

    patience: int | None = None
    min_delta: float = 0.0
    restore_best_weights: bool = True

    def __post_init__(self) -> None:
        if self.patience is not None and self.patience < 1:
            raise ConfigError(
                f"training.early_stopping.patience: Received {self.patience}. "
                "Expected a whole number above 0, or null for no early stop."
            )
        if not 0 <= self.min_delta < math.inf:
            raise ConfigError(
                f"training.early_stopping.min_delta: Received {self.min_delta}. Expected 0 or more."
            )


@dataclass
class Progress:
    """Where a training is; part of its checkpoints.

    Attributes:
        epoch: How many epochs are done.
        batches: How many batches were trained on.
        best: The metrics of the best epoch; of equals, the last.
        reference: The value that the next improvement is measured from.
        waited: How many epochs have passed since.
        steps: How many steps of the epoch under way are done.
        sums: The sums, so far, of what that epoch measures.
        examples: Over how many examples they are.
    """

    epoch: int = 0
    batches: int = 0
    best: dict[str, float] = field(default_factory=dict)
    reference: float | None = None
    waited: int = 0
    steps: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    examples: int = 0

    def end_epoch(
        self, metrics: Mapping[str, float], monitor: str, mode: Mode, min_delta: float
    ) -> bool:
        """Notes an epoch down.

        Args:
            metrics: Its metrics, the monitored one among them.
            monitor: The metric that counts.
            mode: Whether more or less of it is better.
            min_delta: What an improvement must exceed.

        Returns:
            Whether this epoch is the best so far.
        """
        sign = 1 if mode == "max" else -1
        value = sign * metrics[monitor]
        self.epoch += 1
        self.waited += 1
        self.steps, self.sums, self.examples = 0, {}, 0
        if self.reference is None or value > self.reference + min_delta:
            self.reference, self.waited = value, 0
        is_best = not self.best or value >= sign * self.best[monitor]
        if is_best:
            self.best = dict(metrics)
        return is_best

    def state_dict(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        return asdict(self)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over what a checkpoint holds."""
        for name, value in state.items():
            setattr(self, name, value)
