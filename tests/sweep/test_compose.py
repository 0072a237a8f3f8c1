"""The cached composition is Hydra's own."""

from __future__ import annotations

import pytest
from hydra.core.config_loader import ConfigLoader
from hydra.errors import ConfigCompositionException
from omegaconf import DictConfig, OmegaConf, open_dict

from dlsweep.sweep.compose import Composer, leaves


@pytest.mark.parametrize(
    "overrides",
    [
        ["training.optimizer.lr=0.5", "training/optimizer=adamw", "model=cnn"],
        ["model=cnn", "model.channels=[8,16]", "model.input_shape=[3,8,8]", "data.folder=null"],
        ["+training.note=new", "++seed=5", "++training.other={a:[1,{b:null}]}"],
        ["~model.dropout", "~training/scheduler", "tracking=[tensorboard]"],
        ["+training.optimizer.betas=[0.8,0.9]", "training.loss='a b'"],
        ["training.batch_size=${training.epochs}", "tracking=none", "launcher=inline"],
    ],
    ids=" ".join,
)
def test_it_equals_hydras_for_every_kind_of_override(
    loader: ConfigLoader, master: DictConfig, composer: Composer, overrides: list[str]
) -> None:
    composer.config([])  # what is cached changes nothing
    expected = hydras(loader, master, [*composer.fixed, *overrides])
    assert plain(composer.config(overrides)) == plain(expected)


def hydras(loader: ConfigLoader, master: DictConfig, overrides: list[str]) -> DictConfig:
    config = loader.load_sweep_config(master, overrides)
    with open_dict(config):
        del config["hydra"]
    return config


def plain(config: DictConfig) -> object:
    return OmegaConf.to_container(config, resolve=False)


def test_what_a_caller_does_to_a_config_the_next_does_not_see(composer: Composer) -> None:
    first = composer.config(["seed=1"])
    first.model.hidden.append(7)
    assert composer.config(["seed=1"]).model.hidden == [256, 128]


def test_a_value_for_a_key_that_is_not_there_is_an_error(composer: Composer) -> None:
    with pytest.raises(ConfigCompositionException, match=r"training\.epoch"):
        composer.config(["training.epoch=3"])


def test_keys_depend_on_the_choices(composer: Composer) -> None:
    momentum = "training.optimizer.momentum"
    assert not composer.has_key([], momentum)
    assert composer.has_key(["training/optimizer=sgd"], momentum)
    assert momentum in composer.keys(["training/optimizer=sgd"])
    assert "hydra" not in {key.partition(".")[0] for key in composer.keys([])}


def test_a_list_element_is_a_key(composer: Composer) -> None:
    assert composer.has_key([], "model.hidden.1")
    assert not composer.has_key([], "model.hidden.2")
    assert not composer.has_key([], "model.hidden.first")


def test_groups_are_known_by_the_files_there_are(composer: Composer) -> None:
    assert composer.is_group("training/optimizer")
    assert composer.is_group("model")
    assert not composer.is_group("training.epochs")
    assert not composer.is_group("seed")


def test_leaves_name_every_key_with_dots() -> None:
    config = OmegaConf.create({"a": {"b": [1], "c": None}, "d": "${a.b}", "e": "???"})
    assert [key for key, _ in leaves(config)] == ["a", "a.b", "a.c", "d", "e"]
