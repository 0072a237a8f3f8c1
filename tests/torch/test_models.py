"""The PyTorch models that ship."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from dlsweep.errors import ConfigError
from dlsweep.security.instantiate import instantiate
from dlsweep.torch.models import CNN, MLP

pytestmark = pytest.mark.slow
CONF = Path(__file__).parents[2] / "conf" / "model"
SHAPE = [1, 28, 28]


def widths(model: nn.Module) -> list[tuple[int, int]]:
    return [(m.in_features, m.out_features) for m in model.modules() if isinstance(m, nn.Linear)]


@pytest.mark.parametrize(
    ("hidden", "expected"),
    [
        ([256, 128], [(784, 256), (256, 128), (128, 10)]),
        (64, [(784, 64), (64, 10)]),
        ([], [(784, 10)]),
    ],
)
def test_an_mlp_has_the_layers_that_hidden_says(hidden, expected):
    model = MLP(SHAPE, 10, hidden)
    assert widths(model) == expected
    assert model(torch.zeros(3, *SHAPE)).shape == (3, 10)


def test_dropout_and_activation_come_after_each_hidden_layer():
    model = MLP(SHAPE, 10, [8, 8], dropout=0.25, activation="gelu")
    kinds = [type(layer).__name__ for layer in model.layers]
    assert kinds == ["Flatten", *["Linear", "GELU", "Dropout"] * 2, "Linear"]
    assert {layer.p for layer in model.layers if isinstance(layer, nn.Dropout)} == {0.25}


def test_each_activation_can_be_chosen():
    model_of = {name: MLP([4], 2, 3, activation=name) for name in ("relu", "silu", "elu", "tanh")}
    outputs = {name: type(model.layers[2]).__name__.lower() for name, model in model_of.items()}
    assert outputs == {name: name for name in model_of}


@pytest.mark.parametrize(
    ("shape", "channels"), [(SHAPE, [8]), (SHAPE, [4, 8, 16, 32]), ([3, 32, 17], [4, 8])]
)
def test_a_cnn_fits_images_of_any_size(shape, channels):
    model = CNN(shape, 5, channels, hidden=16, dropout=0.5)
    assert model(torch.zeros(2, *shape)).shape == (2, 5)
    found = [m.out_channels for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert found == channels


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MLP(SHAPE, 10, [64, 0]), r"model\.hidden: Received 64, 0"),
        (lambda: MLP(SHAPE, 0, 64), r"model\.classes: Received 0"),
        (lambda: MLP([0], 2, 64), r"model\.input_shape: Received 0"),
        (lambda: MLP(SHAPE, 10, 64, dropout=1.0), r"model\.dropout: Received 1\.0"),
        (lambda: MLP(SHAPE, 10, 64, activation="swish"), r"model\.activation: Received 'swish'"),
        (lambda: CNN([784], 10, [8]), r"model\.input_shape: Received \[784\]\. Expected \[chan"),
        (lambda: CNN(SHAPE, 10, [8] * 5), r"model\.channels: Received 5 blocks.*Expected 1 to 4"),
        (lambda: CNN(SHAPE, 10, []), r"model\.channels: Received 0 blocks"),
        (lambda: CNN(SHAPE, 10, [8], hidden=0), r"model\.hidden: Received 0"),
        (lambda: CNN(SHAPE, 10, [8], dropout=-0.1), r"model\.dropout: Received -0\.1"),
    ],
)
def test_an_argument_out_of_its_range_is_refused(make, message: str):
    with pytest.raises(ConfigError, match=message):
        make()


@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_the_config_makes_the_model(name: str):
    config = OmegaConf.create(
        {
            "framework": {"models": "dlsweep.torch"},
            "data": {"input_shape": SHAPE, "classes": 10},
            "model": OmegaConf.load(CONF / f"{name}.yaml"),
        }
    )
    model = instantiate(config.model, _convert_="all")
    assert model(torch.zeros(2, *SHAPE)).shape == (2, 10)
