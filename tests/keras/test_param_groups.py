"""Parameter groups of Keras do what those of PyTorch do, step by step."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest

from dlsweep.errors import ConfigError
from dlsweep.trainers.param_groups import Options

pytestmark = pytest.mark.slow

RANDOM = np.random.default_rng(0)
X, Y = (RANDOM.normal(size=(40, size)).astype(np.float32) for size in (5, 2))
OPTIONS = Options(
    {
        "first": {"match": r"(.*/)?first\W.*", "lr": 0.003},
        "biases": {"match": ".*bias", "weight_decay": 0.3},
        "last": {"match": r"(.*/)?last\W.*", "lr": 0.02, "weight_decay": 0.0},
    },
    [r"(.*/)?middle\W(weight|kernel)"],
)
ADAM = {"lr": 0.01, "weight_decay": 0.1}
CASES = [
    ("SGD", {"lr": 0.01, "momentum": 0.9}, None),
    (
        "SGD",
        {"lr": 0.01, "weight_decay": 0.1},
        ("CosineAnnealingLR", {"T_max": 8, "eta_min": 1e-3}),
    ),
    ("Adam", ADAM, ("StepLR", {"step_size": 2, "gamma": 0.5})),
    ("AdamW", ADAM, ("CosineAnnealingLR", {"T_max": 8, "eta_min": 1e-3})),
    (
        "AdamW",
        {**ADAM, "weight_decay": 0.0},
        ("LambdaLR", {"lr_lambda": lambda epoch: 1 / (1 + epoch)}),
    ),
    ("Adam", {"lr": 0.01}, ("ReduceLROnPlateau", {"patience": 0, "factor": 0.5, "min_lr": 0.002})),
]


def keras_model() -> Any:
    import keras

    keras.utils.set_random_seed(0)
    layer = keras.layers.Dense
    layers = [
        layer(4, "tanh", name="first"),
        layer(3, "tanh", name="middle"),
        layer(2, name="last"),
    ]
    return keras.Sequential([keras.Input((5,)), *layers])


def torch_twin(model: Any) -> Any:
    import torch

    class Twin(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            linear = torch.nn.Linear
            self.first, self.middle, self.last = linear(5, 4), linear(4, 3), linear(3, 2)

        def forward(self, inputs: Any) -> Any:
            return self.last(torch.tanh(self.middle(torch.tanh(self.first(inputs)))))

    twin = Twin()
    for layer in model.layers:
        kernel, bias = layer.get_weights()
        ours = getattr(twin, layer.name)
        ours.weight.data, ours.bias.data = torch.tensor(kernel.T.copy()), torch.tensor(bias)
    return twin


@pytest.mark.parametrize("is_scaled", [False, True])
@pytest.mark.parametrize(("name", "arguments", "scheduler"), CASES)
def test_groups_take_the_steps_of_pytorchs(
    name: str, arguments: dict, scheduler: Any, is_scaled: bool
) -> None:
    import keras
    import torch

    from dlsweep.keras import optimizers, param_groups, schedulers
    from dlsweep.torch.param_groups import freeze, optimizer_for

    model = keras_model()
    twin = torch_twin(model)
    freeze(twin, OPTIONS)
    theirs = optimizer_for(
        twin, functools.partial(getattr(torch.optim, name), **arguments), OPTIONS
    )
    param_groups.freeze(model, OPTIONS)
    ours = param_groups.grouped(getattr(optimizers, name)(**arguments), model, OPTIONS)
    if is_scaled:
        ours = keras.optimizers.LossScaleOptimizer(ours, initial_scale=1024.0)
    model.compile(ours, "mse")
    ours.build(model.trainable_variables)
    steps: list[Any] = []
    if scheduler:
        kind, options = scheduler
        steps = [
            getattr(schedulers, kind)(ours, **options).step,
            getattr(torch.optim.lr_scheduler, kind)(theirs, **options).step,
        ]
    for number in range(6):
        loss = torch.nn.functional.mse_loss(twin(torch.tensor(X)), torch.tensor(Y))
        theirs.zero_grad()
        loss.backward()
        theirs.step()
        model.train_on_batch(X, Y)
        for step, is_theirs in zip(steps, (False, True), strict=False):
            needs_value = not is_theirs or kind == "ReduceLROnPlateau"
            step(float(number)) if needs_value else step()
    for layer in model.layers:
        kernel, bias = layer.get_weights()
        twins = getattr(twin, layer.name)
        np.testing.assert_allclose(kernel.T, twins.weight.detach().numpy(), atol=3e-5)
        np.testing.assert_allclose(bias, twins.bias.detach().numpy(), atol=3e-5)
    shapes = [variable.shape for variable in ours.variables]
    assert (4, 3) not in shapes, "a frozen parameter has a state"
    assert len(theirs.param_groups) == 5
    assert twin.middle.weight not in theirs.state


def test_a_rate_of_its_own_beside_a_schedule_is_refused() -> None:
    import keras

    from dlsweep.keras.param_groups import grouped

    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.5)
    with pytest.raises(ConfigError, match=r"param_groups: Received lr with an optimizer whose"):
        grouped(keras.optimizers.SGD(schedule), keras_model(), OPTIONS)


def test_an_optimizer_that_decays_its_own_way_is_refused() -> None:
    import keras

    from dlsweep.keras.param_groups import grouped

    with pytest.raises(ConfigError, match=r"Received groups with Muon(?s:.)*=adamw"):
        grouped(keras.optimizers.Muon(0.1), keras_model(), OPTIONS)
    nadam = grouped(keras.optimizers.Nadam(0.1), keras_model(), OPTIONS)
    assert type(nadam).__name__ == "GroupedNadam"
