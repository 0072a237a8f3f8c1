"""Parameter groups and frozen parameters for Keras, with the meaning that they have in PyTorch.

Keras has one learning rate and one weight decay for all variables. Scaling a gradient instead would
change nothing in Adam, which divides by the gradient's own size. So the update of each variable
gets its group's rate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras

from dlsweep.errors import ConfigError
from dlsweep.keras.batch_norm import batch_norms
from dlsweep.keras.optimizers import Penalised
from dlsweep.keras.schedulers import learning_rate
from dlsweep.keras.state import stable_names
from dlsweep.trainers.param_groups import Options


def parameter_names(model: keras.Model) -> dict[int, str]:
    """Returns the names of a built model's weights by their ``id``."""
    return {
        id(weight): name
        for weight, name in zip(model.weights, stable_names(model.weights), strict=True)
    }


def trained_shapes(model: keras.Model) -> dict[str, list[int]]:
    """Returns the shapes of the parameters that a built model trains, by name."""
    names = parameter_names(model)
    return {names[id(weight)]: list(weight.shape) for weight in model.trainable_weights}


def freeze(model: keras.Model, options: Options) -> None:
    """Freezes parameters: they have no gradient and no state of the optimizer.

    Batch norm whose parameters and statistics are all frozen runs in inference mode.

    Raises:
        ConfigError: If a pattern matches no parameter, or all parameters are frozen.
    """
    options.check(list(trained_shapes(model)))
    names = parameter_names(model)
    for weight in model.trainable_weights:
        if options.freezes(names[id(weight)]):
            weight.trainable = False
    for layer in batch_norms(model):
        if all(options.freezes(names[id(weight)]) for weight in layer.weights):
            layer.trainable = False


class Grouped:
    """Gives variables of an optimizer a learning rate and weight decay of their own.

    Attributes:
        group_rates: A variable for each learning rate other than the optimizer's own.
    """

    group_rates: Sequence[Any]

    def begin(self, groups: Sequence[tuple[Mapping[str, float], Sequence[Any]]]) -> None:
        """Sets the groups.

        Args:
            groups: The options and the variables of each.
        """
        rates = sorted({options["lr"] for options, _ in groups if "lr" in options})
        self.group_rates = [
            self.add_variable((), keras.initializers.Constant(rate), "float32", name=f"lr_{number}")  # type: ignore[attr-defined]
            for number, rate in enumerate(rates)
        ]
        by_value: dict[float | None, Any] = {}
        by_value.update(zip(rates, self.group_rates, strict=True))
        self._own: dict[Any, tuple[Any, float | None]] = {
            self._var_key(variable): (by_value.get(options.get("lr")), options.get("weight_decay"))  # type: ignore[attr-defined]
            for options, variables in groups
            for variable in variables
        }

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Updates one variable."""
        own_rate, own_decay = self._own[self._var_key(variable)]  # type: ignore[attr-defined]
        rate = learning_rate if own_rate is None else own_rate
        penalty = getattr(self, "penalty", None)
        decay = (penalty if penalty is not None else self.weight_decay) or 0.0  # type: ignore[attr-defined]
        decay = decay if own_decay is None else own_decay
        if decay and penalty is not None:
            gradient = gradient + decay * keras.ops.cast(variable, gradient.dtype)
        elif decay and self._use_weight_decay(variable):  # type: ignore[attr-defined]
            value = keras.ops.convert_to_tensor(variable)
            self.assign_sub(variable, value * decay * keras.ops.cast(rate, value.dtype))  # type: ignore[attr-defined]
        super().update_step(gradient, variable, rate)  # type: ignore[misc]

    def _apply_weight_decay(self, variables: Sequence[Any]) -> None:
        """Does nothing: each variable decays in its own step, as much as its group says."""


def grouped(optimizer: keras.Optimizer, model: keras.Model, options: Options) -> keras.Optimizer:
    """Gives an optimizer, not built yet, the groups of a built model's parameters.

    Args:
        optimizer: The optimizer. It gets a subclass of its class.
        model: The model; frozen parameters are not trainable any more.
        options: The options of groups.

    Raises:
        ConfigError: If the optimizer's learning rate is a schedule, or it decays weights its own
            way, as Muon does.
    """
    if not options.param_groups:
        return optimizer
    names = parameter_names(model)
    groups = options.grouped((names[id(one)], one) for one in model.trainable_weights)
    _check_decay(type(optimizer))
    if any("lr" in own for own, _ in groups):
        _check_rate(optimizer)
    kind = _plain_class(type(optimizer))
    optimizer.__class__ = type(
        f"Grouped{kind.__name__}", (Grouped, kind), {"__module__": kind.__module__}
    )
    optimizer.begin(groups)
    return optimizer


def _check_rate(optimizer: keras.Optimizer) -> None:
    try:
        optimizer.learning_rate = learning_rate(optimizer)
    except TypeError:
        raise ConfigError(
            "training.param_groups: Received lr with an optimizer whose learning_rate is a "
            "schedule.\nExpected a number as its learning rate; a scheduler changes those of all "
            "groups.  Type, for instance,  training/scheduler=cosine"
        ) from None


def _check_decay(kind: type) -> None:
    owner = next(one for one in kind.__mro__ if "_apply_weight_decay" in vars(one))
    if owner is not keras.Optimizer and issubclass(owner, keras.Optimizer):
        raise ConfigError(
            f"training.param_groups: Received groups with {kind.__name__}, which decays weights "
            "in a way of its own.\nExpected another optimizer. Type  training/optimizer=adamw"
        )


def _plain_class(kind: type) -> type:
    """Returns an optimizer's class that updates variables one by one, without our L2 penalty."""
    return next(
        one
        for one in kind.__mro__
        if not (issubclass(one, Penalised) or one.__module__.startswith("keras.src.backend"))
    )
