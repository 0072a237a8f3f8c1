"""Keras optimizers with PyTorch's names, arguments and meaning.

So one search space works for both frameworks. Each also takes Keras's own options, such as
``global_clipnorm``.
"""

from __future__ import annotations

from typing import Any

import keras


def Adam(  # noqa: N802 - the name in the config, which is PyTorch's
    lr: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    **options: Any,
) -> keras.Optimizer:
    """Adam (Kingma and Ba, 2015).

    Args:
        lr: The learning rate.
        betas: The decay rates of the moving averages of the gradient and its square.
        eps: A term in the denominator for numerical stability.
        weight_decay: The L2 penalty, added to the gradient; for decoupled decay see :func:`AdamW`.
        **options: Options of any Keras optimizer.
    """
    kind = PenalisedAdam if weight_decay else keras.optimizers.Adam
    made = kind(lr, betas[0], betas[1], eps, **options)
    made.penalty = weight_decay
    return made


def AdamW(  # noqa: N802
    lr: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 1e-2,
    **options: Any,
) -> keras.Optimizer:
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019).

    Args:
        lr: The learning rate.
        betas: The decay rates of the moving averages of the gradient and its square.
        eps: A term in the denominator for numerical stability.
        weight_decay: The decoupled decay; a step shrinks weights by it times the learning rate.
        **options: Options of any Keras optimizer.
    """
    return keras.optimizers.AdamW(lr, weight_decay, betas[0], betas[1], eps, **options)


def SGD(  # noqa: N802
    lr: float = 1e-2,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
    **options: Any,
) -> keras.Optimizer:
    """Stochastic gradient descent.

    Args:
        lr: The learning rate.
        momentum: The momentum factor.
        weight_decay: The L2 penalty, added to the gradient.
        nesterov: Whether to use Nesterov momentum.
        **options: Options of any Keras optimizer.
    """
    kind = PenalisedSGD if weight_decay else keras.optimizers.SGD
    made = kind(lr, float(momentum), nesterov, **options)
    made.penalty = weight_decay
    return made


def inner_optimizer(model: keras.Model) -> Any:
    """Returns a compiled model's optimizer without its loss scaling."""
    return getattr(model.optimizer, "inner_optimizer", model.optimizer)


class Penalised:
    """Adds the gradient of an L2 penalty after clipping, as PyTorch does.

    Keras's own ``weight_decay`` is decoupled, which is not the same for optimizers with momentum or
    moving averages.
    """

    penalty = 0.0

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Updates one variable."""
        penalised = gradient + self.penalty * keras.ops.cast(variable, gradient.dtype)
        super().update_step(penalised, variable, learning_rate)  # type: ignore[misc]


class PenalisedAdam(Penalised, keras.optimizers.Adam):
    """Adam with an L2 penalty."""


class PenalisedSGD(Penalised, keras.optimizers.SGD):
    """Stochastic gradient descent with an L2 penalty."""
