"""Loss, monitored metric and mode of a task, as resolvers of ``conf/training/default.yaml``.

``--cfg job --resolve`` shows their values. A value that the user gives takes their place.
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from typing import Any

from omegaconf import OmegaConf

#: The metrics of the trainers that ship of which a lower value is better.
_ERRORS = {f"{part}/{name}" for part in ("train", "val", "test") for name in ("loss", "mae")}


def loss_of(task: str | None) -> str:
    """Returns the loss of ``data.task``: of classes, unless it is a regression."""
    return "mse" if task == "regression" else "cross_entropy"


def monitor_of(loss: Any) -> str:
    """Returns the metric to monitor: only the loss of values has no accuracy."""
    return "val/loss" if loss == "mse" else "val/accuracy"


def mode_of(monitor: Any) -> str:
    """Returns ``min`` for a loss and a mean absolute error, and ``max`` for any other metric."""
    return "min" if monitor in _ERRORS else "max"


register: Callable[..., None] = OmegaConf.register_new_resolver
if "replace" in signature(OmegaConf.register_resolver).parameters:  # its name in OmegaConf 2.4
    register = OmegaConf.register_resolver
for name, resolver in {"loss": loss_of, "monitor": monitor_of, "mode": mode_of}.items():
    register(f"dlsweep.{name}", resolver, replace=True)
