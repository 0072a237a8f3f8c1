"""Keras's optimizers under PyTorch's names, with PyTorch's arguments and meaning.

So that one search space does for both frameworks. Each takes Keras's own options as well, such as
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
        betas: How slowly the means of the gradient and of its square forget.
        eps: Keeps the step finite.
        weight_decay: Of an L2 penalty, added to the gradient; see :func:`AdamW` for the other kind.
        **options: Of any Keras optimizer.
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
        betas: How slowly the means of the gradient and of its square forget.
        eps: Keeps the step finite.
        weight_decay: The share by which weights shrink in a step, times the learning rate.
        **options: Of any Keras optimizer.
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
        momentum: The share of the last step that is taken again.
        weight_decay: Of an L2 penalty, added to the gradient.
        nesterov: Whether momentum looks ahead.
        **options: Of any Keras optimizer.
    """
    kind = PenalisedSGD if weight_decay else keras.optimizers.SGD
    made = kind(lr, float(momentum), nesterov, **options)
    made.penalty = weight_decay
    return made


class _Penalised:
    """Adds an L2 penalty's gradient, after clipping, as PyTorch does.

    Keras's own ``weight_decay`` shrinks the weights beside the step, which is not the same where
    the step has a memory.
    """

    penalty = 0.0

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Updates one variable."""
        penalised = gradient + self.penalty * keras.ops.cast(variable, gradient.dtype)
        super().update_step(penalised, variable, learning_rate)  # type: ignore[misc]


class PenalisedAdam(_Penalised, keras.optimizers.Adam):
    """Adam with an L2 penalty."""


class PenalisedSGD(_Penalised, keras.optimizers.SGD):
    """Stochastic gradient descent with an L2 penalty."""
