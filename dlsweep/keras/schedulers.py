"""Learning rate schedulers for Keras with PyTorch's names and meaning.

They step at the end of each epoch. A schedule of Keras's own steps at each batch; set it as the
optimizer's ``learning_rate`` instead.
"""

from __future__ import annotations

import contextlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from dlsweep.errors import ConfigError


def learning_rate(optimizer: Any) -> float:
    """Returns the learning rate of an optimizer's next step."""
    return _number(optimizer.learning_rate)


def _number(rate: Any) -> float:
    try:
        return float(rate)
    except TypeError:  # on several devices
        return float(rate.numpy())


def _group_rates(optimizer: Any) -> Sequence[Any]:
    """Returns the variables of the learning rates of an optimizer's parameter groups."""
    rates: Sequence[Any] = getattr(
        getattr(optimizer, "inner_optimizer", optimizer), "group_rates", ()
    )
    return rates


@dataclass(frozen=True)
class Rates:
    """The initial learning rates of an optimizer and of its parameter groups.

    Attributes:
        own: The optimizer's own.
        groups: Those of its groups.
    """

    own: float
    groups: list[float]

    @classmethod
    def of(cls, optimizer: Any, scheduler: Scheduler | None) -> Rates:
        """Returns those of an optimizer that was just built."""
        if scheduler:
            return cls(scheduler.base_lr, list(scheduler.group_lrs))
        groups = [_number(rate) for rate in _group_rates(optimizer)]
        return cls(learning_rate(optimizer), groups)

    def set(self, optimizer: Any, scheduler: Scheduler | None) -> None:
        """Sets them in a restored training; what a scheduler has done to a rate stays as a factor.

        A learning rate that is a schedule of Keras's own is left as it was built.
        """
        before = Rates(scheduler.base_lr, scheduler.group_lrs) if scheduler else None
        now = learning_rate(optimizer)
        with contextlib.suppress(TypeError):  # raised for a schedule
            optimizer.learning_rate = _scaled(now, self.own, before.own if before else None)
        for place, rate in enumerate(_group_rates(optimizer)):
            known = before.groups[place] if before else None
            rate.assign(_scaled(_number(rate), self.groups[place], known))
        if scheduler:
            scheduler.base_lr, scheduler.group_lrs = self.own, list(self.groups)


def _scaled(now: float, initial: float, before: float | None) -> float:
    return now * (initial / before) if before else initial


class Scheduler(ABC):
    """Sets an optimizer's learning rate, and those of its groups, each from its own start.

    Args:
        optimizer: A Keras optimizer with a plain number as its learning rate.

    Raises:
        ConfigError: If it has a schedule of its own.
    """

    def __init__(self, optimizer: Any) -> None:
        self._optimizer = optimizer
        try:
            self.base_lr = optimizer.learning_rate = learning_rate(optimizer)
        except TypeError:
            raise ConfigError(
                "training.scheduler: Received one for an optimizer whose learning_rate is a "
                "schedule already. Expected one of the two.  Type  training/scheduler=none"
            ) from None
        self._group_rates = _group_rates(optimizer)
        self.group_lrs = [_number(rate) for rate in self._group_rates]
        self.epoch = 0

    def step(self, monitored: float) -> None:
        """Steps at the end of an epoch, with the value of the monitored metric."""
        self.epoch += 1
        self._observe(monitored)
        self._set_rates()

    def state_dict(self) -> dict[str, Any]:
        """Returns plain values for a checkpoint, without the learning rate."""
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores the values of a checkpoint."""
        vars(self).update(state)

    def _set_rates(self) -> None:
        now = learning_rate(self._optimizer)
        self._optimizer.learning_rate = self._next(self.base_lr, now)
        for rate, base in zip(self._group_rates, self.group_lrs, strict=True):
            rate.assign(self._next(base, _number(rate)))

    def _observe(self, monitored: float) -> None:  # noqa: B027 - most follow only the epochs
        """Takes note of the value of the monitored metric."""

    @abstractmethod
    def _next(self, base: float, now: float) -> float:
        """Returns the learning rate of the next epoch, from the initial one and today's."""


class StepLR(Scheduler):
    """Multiplies the learning rate by a factor every ``step_size`` epochs.

    Args:
        optimizer: The optimizer.
        step_size: The number of epochs.
        gamma: The factor.
    """

    def __init__(self, optimizer: Any, step_size: int, gamma: float = 0.1) -> None:
        super().__init__(optimizer)
        self.step_size = step_size
        self.gamma = gamma

    def _next(self, base: float, now: float) -> float:  # noqa: ARG002 - part of the interface
        return float(base * self.gamma ** (self.epoch // self.step_size))


class CosineAnnealingLR(Scheduler):
    """Cosine annealing of the learning rate (Loshchilov and Hutter, 2017).

    Args:
        optimizer: The optimizer.
        T_max: The number of epochs until the minimum.
        eta_min: The minimum learning rate.
    """

    def __init__(self, optimizer: Any, T_max: int, eta_min: float = 0.0) -> None:  # noqa: N803
        super().__init__(optimizer)
        self.t_max = T_max
        self.eta_min = eta_min

    def _next(self, base: float, now: float) -> float:  # noqa: ARG002 - part of the interface
        share = (1 + math.cos(math.pi * self.epoch / self.t_max)) / 2
        return float(self.eta_min + (base - self.eta_min) * share)


class LambdaLR(Scheduler):
    """Multiplies the initial learning rate by a function of the epoch.

    Args:
        optimizer: The optimizer.
        lr_lambda: Returns the factor of an epoch, counted from 0.
    """

    def __init__(self, optimizer: Any, lr_lambda: Callable[[int], float]) -> None:
        super().__init__(optimizer)
        self._factor = lr_lambda
        self._set_rates()

    def _next(self, base: float, now: float) -> float:  # noqa: ARG002 - part of the interface
        return float(base * self._factor(self.epoch))


class ReduceLROnPlateau(Scheduler):
    """Reduces the learning rate when the monitored metric no longer improves.

    Args:
        optimizer: The optimizer.
        mode: Whether a higher (``max``) or a lower (``min``) value is better.
        factor: The factor of a reduction.
        patience: The number of epochs without improvement before a reduction.
        threshold: The smallest relative change that counts as an improvement.
        cooldown: The number of epochs after a reduction that do not count.
        min_lr: The minimum learning rate.
    """

    def __init__(
        self,
        optimizer: Any,
        mode: Literal["min", "max"] = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
    ) -> None:
        super().__init__(optimizer)
        self.mode = mode
        self.factor = factor
        self.patience = patience
        self.threshold = threshold
        self.cooldown = cooldown
        self.min_lr = min_lr
        self.best: float | None = None
        self.waited = 0
        self.cooling = 0
        self._reduces = False

    def _observe(self, monitored: float) -> None:
        self.waited += 1
        if self._is_better(monitored):
            self.best, self.waited = monitored, 0
        if self.cooling:
            self.cooling, self.waited = self.cooling - 1, 0
        self._reduces = self.waited > self.patience
        if self._reduces:
            self.cooling, self.waited = self.cooldown, 0

    def _next(self, base: float, now: float) -> float:  # noqa: ARG002 - part of the interface
        return max(now * self.factor, self.min_lr) if self._reduces else now

    def _is_better(self, value: float) -> bool:
        if self.best is None:
            return True
        if self.mode == "max":
            return value > self.best * (1 + self.threshold)
        return value < self.best * (1 - self.threshold)
