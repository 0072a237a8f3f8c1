"""Keras under PyTorch's names: optimizers, schedules and models that do what PyTorch's do."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from dlsweep.errors import ConfigError, DataError
from dlsweep.trainers.schedules import WarmupCosine

pytestmark = pytest.mark.slow

OPTIMIZERS = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    ("Adam", {"lr": 0.01}),
    ("Adam", {"lr": 0.01, "weight_decay": 0.1}),
    ("AdamW", {"lr": 0.01, "weight_decay": 0.1}),
]
SCHEDULERS = [
    ("StepLR", {"step_size": 3, "gamma": 0.5}),
    ("CosineAnnealingLR", {"T_max": 8, "eta_min": 1e-3}),
    ("LambdaLR", {"lr_lambda": WarmupCosine(12, 3, 0.1)}),
    ("ReduceLROnPlateau", {"mode": "max", "patience": 1, "factor": 0.5}),
    ("ReduceLROnPlateau", {"mode": "min", "patience": 0, "factor": 0.3, "min_lr": 0.01}),
    ("ReduceLROnPlateau", {"mode": "max", "patience": 0, "cooldown": 2, "threshold": 0.05}),
]
GRADIENTS = np.random.default_rng(0).normal(size=(20, 5)).astype(np.float32)
START = np.linspace(-1, 1, 5, dtype=np.float32)


@pytest.mark.parametrize(("name", "arguments"), OPTIMIZERS)
def test_an_optimizer_takes_the_steps_of_pytorchs(name: str, arguments: dict) -> None:
    import keras
    import torch

    from dlsweep.keras import optimizers

    variable, tensor = keras.Variable(START), torch.tensor(START)
    ours = getattr(optimizers, name)(**arguments)
    ours.build([variable])
    theirs = getattr(torch.optim, name)([tensor], **arguments)
    for gradient in GRADIENTS:
        ours.apply([keras.ops.convert_to_tensor(gradient)])
        tensor.grad = torch.tensor(gradient)
        theirs.step()
    np.testing.assert_allclose(variable.numpy(), tensor.numpy(), rtol=2e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "arguments"), SCHEDULERS)
def test_a_schedule_is_that_of_pytorch(name: str, arguments: dict) -> None:
    import keras
    import torch

    from dlsweep.keras import schedulers

    ours = keras.optimizers.SGD(0.1)
    theirs = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    schedules = [
        getattr(schedulers, name)(ours, **arguments),
        getattr(torch.optim.lr_scheduler, name)(theirs, **arguments),
    ]
    theirs.step()
    for monitored in [0.5, 0.6, 0.61, 0.6, 0.59, 0.7, 0.7, 0.7, 0.7, 0.71, 0.6]:
        assert float(ours.learning_rate) == pytest.approx(theirs.param_groups[0]["lr"], rel=1e-5)
        schedules[0].step(monitored)
        schedules[1].step(*[monitored] * (name == "ReduceLROnPlateau"))


def test_a_schedule_beside_one_of_the_optimizers_own_is_refused() -> None:
    import keras

    from dlsweep.keras.schedulers import StepLR

    decay = keras.optimizers.schedules.CosineDecay(0.1, 10)
    with pytest.raises(ConfigError, match=r"schedule already[\s\S]*training/scheduler=none"):
        StepLR(keras.optimizers.SGD(decay), 1)


IMAGE = {"input_shape": [3, 16, 16], "classes": 5}
MODELS = [
    ("MLP", {**IMAGE, "hidden": [16, 8], "dropout": 0.5, "activation": "gelu"}),
    ("CNN", {**IMAGE, "channels": [4, 8], "hidden": 16, "dropout": 0.5}),
    ("ResNet", {**IMAGE, "channels": [4, 8], "blocks": 2}),
    ("TwoBranches", {"input_shape": {"left": [32], "right": [64]}, "classes": 5}),
]


@pytest.mark.parametrize(("name", "arguments"), MODELS)
def test_a_model_has_the_weights_of_pytorchs_twin(name: str, arguments: dict) -> None:
    from dlsweep.keras import models as ours
    from dlsweep.torch import models as theirs

    model, twin = getattr(ours, name)(**arguments), getattr(theirs, name)(**arguments)
    assert model.output_shape == (None, 5)
    weights = [
        [weight.numpy() for weight in model.trainable_weights],
        [parameter.detach().numpy() for parameter in twin.parameters()],
    ]
    sizes, twins = (sorted(weight.size for weight in each) for each in weights)
    assert sizes == twins
    largest, of_twin = (max(each, key=np.size).std() for each in weights)
    assert largest == pytest.approx(of_twin, rel=0.15), "drawn from another range"


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("MLP", {**IMAGE, "hidden": [0]}, r"model\.hidden: Received 0"),
        ("MLP", {**IMAGE, "hidden": 4, "activation": "swish"}, r"model\.activation: Received"),
        ("CNN", {**IMAGE, "channels": [8] * 5}, r"Received 5 blocks.*Expected 1 to 4"),
        ("CNN", {**IMAGE, "input_shape": [784], "channels": [8]}, r"Expected \[channels"),
        ("ResNet", {**IMAGE, "channels": [4], "blocks": 0}, r"model\.blocks: Received 0"),
        ("TwoBranches", {"input_shape": [96], "classes": 2}, r"several inputs by name"),
    ],
)
@pytest.mark.parametrize("framework", ["torch", "keras"])
def test_a_model_refuses_what_cannot_be(framework, name, arguments, message) -> None:
    import importlib

    models = importlib.import_module(f"dlsweep.{framework}.models")
    with pytest.raises(ConfigError, match=message):
        getattr(models, name)(**arguments)


def test_batches_of_a_users_own_are_not_saved_in_the_middle_of_an_epoch(make_run) -> None:
    import tensorflow as tf

    from dlsweep.keras.models import MLP
    from dlsweep.keras.optimizers import SGD
    from dlsweep.keras.trainer import KerasTrainer
    from dlsweep.run.run import Run

    points = tf.data.Dataset.from_tensor_slices((np.zeros((8, 2), np.float32), np.zeros(8, int)))

    class Tried(KerasTrainer):
        def build_model(self, run: Run) -> object:
            return MLP([2], 3, hidden=4)

        def build_data(self, run: Run) -> object:
            return {"train": points.batch(4), "validation": points.batch(4)}

    tried = Tried(functools.partial(SGD, lr=0.1), checkpoint_steps=1)
    with Run.open(make_run().path) as run, pytest.raises(ConfigError) as error:
        tried.fit(run)
    assert "checkpoint_steps" in str(error.value)
    assert "Expected Keras on tensorflow and arrays as data, or null for both" in str(error.value)


def test_single_examples_of_a_dataset_are_refused() -> None:
    import tensorflow as tf

    from dlsweep.keras.batches import prepare

    points = tf.data.Dataset.from_tensor_slices((np.zeros((8, 2), np.float32), np.zeros(8, int)))
    with pytest.raises(DataError, match=r"of single examples[\s\S]*\.batch\(4\)"):
        prepare({"train": points, "validation": points}, 4, 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"checkpoint_seconds": 9.0}, "Looping saves at an epoch's end only"),
        ({"ema_decay": 0.9}, r"training\.ema_decay: Received 0\.9 for a training loop of your own"),
        ({"swa_start": 2}, r"training\.swa_start: Received 2 for a"),
        ({"profiler": [1, 2]}, r"training\.profiler: Received \[1, 2\] for a"),
        ({"callbacks": "of Keras"}, r"training\.callbacks: Received \[.*Callback.*\] for a"),
    ],
)
def test_what_model_fit_does_is_refused_for_a_loop_of_a_users_own(
    options: dict, message: str
) -> None:
    import keras

    from dlsweep.keras.optimizers import SGD
    from dlsweep.keras.trainer import KerasTrainer

    class Looping(KerasTrainer):
        def train(self, model, data, epochs) -> None:
            raise AssertionError("it is not called")

    if "callbacks" in options:
        options = {"callbacks": [keras.callbacks.Callback()]}
    with pytest.raises(ConfigError, match=message):
        Looping(functools.partial(SGD, lr=0.1), **options)
