"""Gradient accumulation for Keras: the gradients of several batches make one step.

Keras's own ``gradient_accumulation_steps`` averages batches of unequal sizes as if they were equal,
carries a started window over into the next epoch, and loses it at the end of the training. Here, as
in PyTorch's trainer, each batch counts by its examples, and an epoch's last window may be shorter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from dlsweep.errors import ConfigError
from dlsweep.keras.optimizers import inner_optimizer


class Accumulating:
    """Makes an optimizer take one step for a window of batches; see :func:`accumulate`."""

    built: bool

    def begin(self, window: int) -> None:
        """Adds the variables for the window.

        Args:
            window: The number of batches in a window.
        """
        self._window = window
        self._moved: tuple[int, ...] = ()
        #: The number of examples in the current batch.
        self.batch_size = self._counter("batch_size", 1.0)
        self._examples = self._counter("window_examples", 0.0)
        self._batches = self._counter("window_batches", 0.0)

    def build(self, variables: Sequence[Any]) -> None:
        """Builds the optimizer, with a sum of gradients for each variable."""
        if self.built:
            return
        super().build(variables)  # type: ignore[misc]
        self._sums = {
            id(variable): self.add_variable_from_reference(variable, "window_sum")  # type: ignore[attr-defined]
            for variable in variables
        }

    def apply(self, grads: Sequence[Any], trainable_variables: Any = None) -> None:
        """Adds a batch's gradients to the window, and takes a step if the window is full."""
        known = self._trainable_variables if trainable_variables is None else trainable_variables  # type: ignore[attr-defined]
        given = [(one, into) for one, into in zip(grads, known, strict=True) if one is not None]
        self._moved = tuple(id(variable) for _, variable in given)
        for gradient, variable in given:
            weighted = keras.ops.convert_to_tensor(gradient) * self.batch_size.value
            self._sums[id(variable)].assign_add(keras.ops.cast(weighted, variable.dtype))
        self._examples.assign_add(self.batch_size)
        self._batches.assign_add(1.0)
        keras.ops.cond(self._batches >= self._window, self._step, lambda: None)

    def flush(self) -> None:
        """Takes a step for a started window, at an epoch's end."""
        if float(self._batches) > 0:
            self._step()

    def _step(self) -> None:
        moved = [one for one in self._trainable_variables if id(one) in self._moved]  # type: ignore[attr-defined]
        sums = [self._sums[id(variable)] for variable in moved]
        means = [each.value / keras.ops.cast(self._examples.value, each.dtype) for each in sums]
        super().apply(means, moved)  # type: ignore[misc]
        for variable in [*sums, self._examples, self._batches]:
            variable.assign(keras.ops.zeros_like(variable.value))

    def _counter(self, name: str, value: float) -> Any:
        return self.add_variable((), keras.initializers.Constant(value), "float32", name=name)  # type: ignore[attr-defined]


def accumulate(optimizer: keras.Optimizer, window: int) -> keras.Optimizer:
    """Makes an optimizer, not built yet, accumulate gradients.

    Args:
        optimizer: The optimizer. It gets a subclass of its class, as Keras's trainers call
            ``apply`` on it, with whatever else they use of an optimizer.
        window: The number of batches whose gradients make one step, at least 2.

    Raises:
        ConfigError: If the optimizer accumulates by itself.
    """
    if optimizer.gradient_accumulation_steps:
        raise ConfigError(
            f"training.accumulate: Received {window}, and an optimizer with "
            f"gradient_accumulation_steps={optimizer.gradient_accumulation_steps}.\n"
            "Expected one of the two. Leave gradient_accumulation_steps out."
        )
    kind = type(optimizer)
    names = {"__module__": kind.__module__}
    optimizer.__class__ = type(f"Accumulating{kind.__name__}", (Accumulating, kind), names)
    optimizer.begin(window)
    return optimizer


def count_examples(model: keras.Model) -> None:
    """Tells a compiled model's accumulating optimizer the size of each batch."""
    optimizer = inner_optimizer(model)
    compute_loss = model.compute_loss

    def counted(x: Any = None, *args: Any, **options: Any) -> Any:
        size = keras.ops.shape(keras.tree.flatten(x)[0])[0]
        optimizer.batch_size.assign(keras.ops.cast(size, "float32"))
        return compute_loss(x, *args, **options)

    model.compute_loss = counted


def flush(model: keras.Model) -> None:
    """Takes a step for a window that has begun, if the model's optimizer accumulates."""
    optimizer = inner_optimizer(model)
    if isinstance(optimizer, Accumulating):
        optimizer.flush()
