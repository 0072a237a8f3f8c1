"""A callback that logs histograms of weights and gradients."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from dlsweep.trainers.callbacks import Callback
from dlsweep.trainers.config import check_least


class Histograms(Callback):
    """Logs histograms of all trainable weights, and of their gradients at the last batch.

    Configure it for either framework::

        training:
          callbacks:
            - _target_: dlsweep.trainers.Histograms
              every: 5

    They are ``weights/<name>`` and ``gradients/<name>``, by the framework's own names. Gradients
    are those of one batch, before clipping and, with fp16, before unscaling. Works for models on
    one device.

    Args:
        every: Epochs between two logs.

    Raises:
        ConfigError: If it is less than 1.
    """

    def __init__(self, every: int = 1) -> None:
        check_least("callbacks: every", every, 1)
        self.every = every
        self._gradients: Mapping[str, Any] = {}

    def on_train_begin(self) -> None:
        """Starts to keep gradients."""
        is_torch = hasattr(self.model, "named_parameters")
        self._gradients = (_keep_in_torch if is_torch else _keep_in_keras)(self.model)

    def on_epoch_end(self, epoch: int, metrics: Mapping[str, float]) -> None:  # noqa: ARG002
        """Logs the histograms every so many epochs."""
        if epoch % self.every:
            return
        for name, weight in _weights(self.model):
            self.run.log_histogram(f"weights/{name}", _array(weight), step=epoch)
        for name, gradient in self._gradients.items():
            self.run.log_histogram(f"gradients/{name}", _array(gradient), step=epoch)


def _weights(model: Any) -> Iterator[tuple[str, Any]]:
    if hasattr(model, "named_parameters"):
        yield from ((name, one) for name, one in model.named_parameters() if one.requires_grad)
    else:
        yield from ((one.path, one) for one in model.trainable_variables)


def _keep_in_torch(model: Any) -> Mapping[str, Any]:
    """Returns the gradients by name; each backward pass replaces them."""
    kept: dict[str, Any] = {}
    for name, parameter in _weights(model):
        parameter.register_hook(partial(kept.__setitem__, name))
    return kept


def _keep_in_keras(model: Any) -> Mapping[str, Any]:
    """Returns variables with the gradients by name, because the step is compiled."""
    import keras

    kept = {name: keras.Variable(keras.ops.zeros_like(one)) for name, one in _weights(model)}
    apply = model.optimizer.apply

    def keep_and_apply(gradients: Iterable[Any], *more: Any) -> Any:
        gradients = list(gradients)
        for variable, gradient in zip(kept.values(), gradients, strict=True):
            variable.assign(keras.ops.convert_to_tensor(gradient))
        return apply(gradients, *more)

    model.optimizer.apply = keep_and_apply
    return kept


def _array(values: Any) -> Any:
    """Converts a PyTorch tensor or a Keras variable to a NumPy array."""
    return values.detach().cpu().float() if hasattr(values, "detach") else values.numpy()
