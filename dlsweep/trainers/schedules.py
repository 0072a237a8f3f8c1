"""Learning rate schedules, as factors of the optimizer's initial learning rate."""

from __future__ import annotations

import math
from dataclasses import dataclass

from dlsweep.errors import ConfigError


@dataclass(frozen=True)
class WarmupCosine:
    """Linear warm-up to the full learning rate, then cosine decay.

    Loshchilov and Hutter, SGDR: Stochastic Gradient Descent with Warm Restarts, 2017 (one cycle);
    the warm-up is that of Goyal et al., Accurate, Large Minibatch SGD, 2017.

    Attributes:
        epochs: The number of epochs; the minimum would be reached one step after the last one.
        warmup_epochs: The number of warm-up epochs.
        min_factor: The factor after the last epoch.

    Raises:
        ConfigError: If the warm-up leaves no epoch, or the factor is not between 0 and 1.
    """

    epochs: int
    warmup_epochs: int = 1
    min_factor: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.warmup_epochs < self.epochs:
            raise ConfigError(
                f"training.scheduler.lr_lambda.warmup_epochs: Received {self.warmup_epochs} of "
                f"{self.epochs} epochs. Expected 0 or more, and fewer than there are epochs."
            )
        if not 0 <= self.min_factor <= 1:
            raise ConfigError(
                f"training.scheduler.lr_lambda.min_factor: Received {self.min_factor}. "
                "Expected 0 to 1."
            )

    def __call__(self, epoch: int) -> float:
        """Returns the factor in an epoch, counted from 0."""
        if epoch < self.warmup_epochs:
            return (epoch + 1) / (self.warmup_epochs + 1)
        done = (epoch - self.warmup_epochs) / (self.epochs - self.warmup_epochs)
        cosine = (1 + math.cos(math.pi * min(done, 1.0))) / 2
        return self.min_factor + (1 - self.min_factor) * cosine
