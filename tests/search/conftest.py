"""The shipped configs, composed once a worker, and spaces over them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.core.config_loader import ConfigLoader
from hydra.types import RunMode
from omegaconf import DictConfig

from dlsweep.cli.main import conf_dir
from dlsweep.sweep.compose import Composer
from dlsweep.sweep.space import Scalar, SearchSpace, dimension_of


@pytest.fixture(scope="session")
def loader() -> ConfigLoader:
    return ConfigLoaderImpl(create_config_search_path(str(conf_dir())))


@pytest.fixture(scope="session")
def master(loader: ConfigLoader) -> DictConfig:
    return loader.load_configuration("config", overrides=[], run_mode=RunMode.MULTIRUN)


@pytest.fixture(scope="session")
def composer(loader: ConfigLoader, master: DictConfig) -> Composer:
    return Composer(loader, master, ["training.epochs=2", "training/scheduler=step"])


@pytest.fixture(scope="session")
def make_space(composer: Composer) -> Callable[..., SearchSpace]:
    """Makes a space from sweep overrides; keywords give the conditions of a key."""

    def make(*texts: str, when: dict[str, Any] | None = None) -> SearchSpace:
        conditions: dict[str, dict[str, list[Scalar]]] = when or {}
        parsed = composer.parse(texts)
        return SearchSpace(
            [dimension_of(one, conditions.get(one.key_or_group)) for one in parsed], composer
        )

    return make
