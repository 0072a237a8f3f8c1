"""Parameter groups and frozen parameters for PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn
from torch.optim import Optimizer

from dlsweep.errors import ConfigError
from dlsweep.torch.batch_norm import statistics
from dlsweep.trainers.param_groups import Options


def freeze(model: nn.Module, options: Options) -> None:
    """Freezes parameters: they have no gradient and no state of the optimizer.

    Raises:
        ConfigError: If a pattern matches no parameter, or all parameters are frozen.
    """
    options.check([name for name, _ in model.named_parameters()])
    for name, parameter in model.named_parameters():
        if options.freezes(name):
            parameter.requires_grad_(False)


def training_mode(model: nn.Module, options: Options) -> None:
    """Sets training mode, except for batch norm whose parameters and statistics are all frozen."""
    model.train()
    for layer, names in statistics(model) if options.freeze else ():
        if all(map(options.freezes, names)):
            layer.eval()


def optimizer_for(model: nn.Module, build: Callable[..., Optimizer], options: Options) -> Optimizer:
    """Builds a model's optimizer, with a group for each set of options.

    Raises:
        ConfigError: If the optimizer lacks an option of a group.
    """
    if not options:
        return build(model.parameters())
    trained = [(name, one) for name, one in model.named_parameters() if one.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": members, **own} for own, members in options.grouped(trained)
    ]
    optimizer = build(groups)
    for group in groups:
        if unknown := sorted(group.keys() - {"params"} - optimizer.defaults.keys()):
            raise ConfigError(
                f"training.param_groups: Received {unknown[0]!r}, which "
                f"{type(optimizer).__qualname__} does not have.\nExpected one that it has. Choose "
                "another optimizer, as  training/optimizer=adamw"
            )
    return optimizer
