"""Early stopping, and the progress of a training."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from dlsweep.errors import ConfigError

Mode = Literal["min", "max"]


@dataclass(frozen=True)
class EarlyStopping:
    """Stops a training when the monitored metric no longer improves.

    Attributes:
        patience: Epochs without improvement after which training stops; None never stops it.
        min_delta: The smallest change that counts as an improvement.
        restore_best_weights: Whether the model in memory gets the best epoch's weights at the end,
            for callbacks and subclasses of the trainer. The run's result and its best checkpoint
            are those of the best epoch in any case.

    Raises:
        ConfigError: If the patience is below 1 or the delta negative.
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
    """The progress of a training; part of its checkpoints.

    Attributes:
        epoch: The number of finished epochs.
        batches: The number of batches trained on.
        best: The metrics of the best epoch; of equal epochs, the last.
        reference: The value that the next improvement is compared with.
        waited: The number of epochs since then.
        steps: The number of finished steps of the current epoch.
        sums: The sums of the current epoch's metrics so far: numbers, or nested lists of them.
        examples: The number of examples in these sums.
    """

    epoch: int = 0
    batches: int = 0
    best: dict[str, float] = field(default_factory=dict)
    reference: float | None = None
    waited: int = 0
    steps: int = 0
    sums: dict[str, Any] = field(default_factory=dict)
    examples: int = 0

    def end_epoch(
        self, metrics: Mapping[str, float], monitor: str, mode: Mode, min_delta: float
    ) -> bool:
        """Records the end of an epoch.

        Args:
            metrics: Its metrics, including the monitored one.
            monitor: The monitored metric.
            mode: Whether a higher or a lower value is better.
            min_delta: The smallest change that counts as an improvement.

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

    def begin_with(self, metrics: Mapping[str, float], monitor: str) -> None:
        """Takes an epoch for the best so far, and as what the next improvement is compared with."""
        self.best = dict(metrics) if monitor in metrics else {}
        self.reference, self.waited = metrics.get(monitor), 0

    def state_dict(self) -> dict[str, Any]:
        """Returns plain values for a checkpoint."""
        return asdict(self)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores the values of a checkpoint."""
        for name, value in state.items():
            setattr(self, name, value)
