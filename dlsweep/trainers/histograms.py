"""How a model's weights and gradients are spread, epoch by epoch, in every tracker."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from dlsweep.trainers.callbacks import Callback
from dlsweep.trainers.config import check_least


class Histograms(Callback):
    """Logs histograms of all trainable weights, and of their gradients at the last batch.

    Named in the config, for either framework::

        training:
          callbacks:
            - _target_: dlsweep.trainers.histograms.Histograms
              every: 5

    They are ``weights/<name>`` and ``gradients/<name>``, by the framework's own names. Gradients
    are those of one batch before they are clipped or, with fp16, scaled back. For models on one
    device.

    Args:
        every: Epochs from one to the next.

    Raises:
        ConfigError: If that is less than 1.
    """

    def __init__(self, every: int = 1) -> None:
        check_least("callbacks: every", every, 1)
        self.every = every
        self._gradients: Mapping[str, Any] = {}

    def on_train_begin(self) -> None:
        """Has the gradients kept from now on."""
        is_torch = hasattr(self.model, "named_parameters")
        self._gradients = (_keep_in_torch if is_torch else _keep_in_keras)(self.model)

    def on_epoch_end(self, epoch: int, metrics: Mapping[str, float]) -> None:  # noqa: ARG002
        """Logs them, if it is time."""
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
    """The gradients by name, which each backward pass replaces."""
    kept: dict[str, Any] = {}
    for name, parameter in _weights(model):
        parameter.register_hook(partial(kept.__setitem__, name))
    return kept


def _keep_in_keras(model: Any) -> Mapping[str, Any]:
    """Likewise, in variables: the step is compiled."""
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
    """As NumPy's, of a PyTorch tensor or a Keras variable."""
    return values.detach().cpu().float() if hasattr(values, "detach") else values.numpy()
