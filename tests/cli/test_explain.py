"""Hydra's complaints, as a user of dlsweep reads them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException

from dlsweep.cli.explain import explain
from dlsweep.cli.search_path import VERSION_BASE, conf_dir


@pytest.fixture(autouse=True)
def hydra() -> Iterator[None]:
    with initialize_config_dir(str(conf_dir()), **VERSION_BASE):
        yield
    GlobalHydra.instance().clear()


def explained(*arguments: str) -> str:
    with pytest.raises(HydraException) as error:
        compose("config", list(arguments), return_hydra_config=True)
    return explain(error.value, [*arguments, "-m"])


@pytest.mark.parametrize(
    ("arguments", "key", "nearest"),
    [
        (["training.epoch=3"], "training.epoch", "'training.epochs'"),
        (["training/optimizer=sgd", "training.optimizer.momntum=0"], "", "optimizer.momentum'"),
        (["+experiment=quadratic", "training.step=3"], "training.step", "'training.steps'"),
        (["modell=cnn"], "modell", "'model'"),
    ],
)
def test_an_unknown_key_names_the_nearest_of_this_very_config(
    arguments: list[str], key: str, nearest: str
) -> None:
    text = explained(*arguments)
    assert text.startswith(f"The config has no key '{key}")
    assert nearest in text.splitlines()[0]
    assert f"--cfg job ; add a new one with  +{key}" in text


def test_an_unknown_key_of_the_sweep_is_looked_for_there() -> None:
    text = explained("hydra.sweeper.n_trial=3")
    assert "Did you mean 'hydra.sweeper.n_trials'" in text
    assert text.endswith("See all of them with  --cfg hydra")


def test_an_unknown_choice_lists_what_there_is() -> None:
    assert explained("model=mpl").splitlines() == [
        "The group 'model' has no choice 'mpl'. Did you mean 'mlp'?",
        "There are: cnn, mlp, none, resnet, two_branches",
    ]


def test_other_errors_keep_hydras_words() -> None:
    assert "interval(1" in explained("seed=interval(1")
    assert "'many'" in explained("hydra.sweeper.n_trials=many")
