"""What a sweep reads from its command line and its config."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra.core.config_loader import ConfigLoader
from hydra.types import RunMode
from omegaconf import DictConfig

from dlsweep.errors import ConfigError, SpaceError
from dlsweep.folders.studydir import StudyDir
from dlsweep.sweep.app import App
from dlsweep.sweep.settings import SweepSettings, read_space, study_settings, sweep_settings
from dlsweep.sweep.space import SearchSpace
from dlsweep.sweep.study import StudySettings

INTERVAL = "model.dropout=interval(0,0.5)"
OPTIONS: dict[str, Any] = {
    "n_trials": None,
    "n_jobs": None,
    "timeout": None,
    "max_failure_rate": 0.5,
    "failures": {},
    "tracking": {},
    "metric": "loss",
    "direction": "minimize",
    "study_name": None,
    "storage": None,
    "sampler": {"_target_": "optuna.samplers.TPESampler"},
    "pruner": {"_target_": "optuna.pruners.MedianPruner"},
    "seed": 0,
    "enqueue": [],
    "keep": None,
    "predict_memory": True,
    "warm_start": [],
}


@pytest.fixture(scope="module")
def app(loader: ConfigLoader, master: DictConfig) -> App:
    return App(("-m", "dlsweep"), True, loader, master)


@pytest.fixture
def settings(app: App, make_space: Callable[..., SearchSpace]) -> Callable[..., SweepSettings]:
    def read(*texts: str, typed: bool = True, **options: Any) -> SweepSettings:
        return sweep_settings(app, {**OPTIONS, **options}, make_space(*texts), typed)

    return read


@pytest.fixture
def study(make_space: Callable[..., SearchSpace]) -> Callable[..., StudySettings]:
    def read(*texts: str, grid: bool = False, **options: Any) -> StudySettings:
        limits = SweepSettings(3, None, None, 0.5, {}, grid, grid, {}, None, True)
        space = make_space(*(texts or (INTERVAL,)))
        return study_settings({**OPTIONS, **options}, space, StudyDir("out"), limits)

    return read


def test_the_command_lines_space_is_the_whole_of_it(app: App) -> None:
    params = {"model.dropout": "interval(0,0.5)"}
    space, typed = read_space(app, params, ["seed=1,2", "training.epochs=3"])
    assert [one.key for one in space.dimensions] == ["seed"]
    assert space.composer.fixed == ("training.epochs=3",)
    assert typed


def test_without_one_the_configs_params_are_the_space(app: App) -> None:
    params = {
        "model.dropout": "interval(0,0.5)",
        "training.epochs": 7,
        "seed": {"space": "range(3)", "when": {"model.dropout": 0.5}},
        "+training.note": "a,b",
        "training.batch_size": "64,128",
    }
    space, typed = read_space(app, params, ["training.batch_size=32"])
    assert [one.key for one in space.dimensions] == ["model.dropout", "training.note", "seed"]
    assert space.dimensions[2].when == {"model.dropout": [0.5]}
    assert space.composer.fixed == ("training.batch_size=32", "training.epochs=7")
    assert not typed


def test_nothing_swept_is_a_space_of_one_point(app: App) -> None:
    space, from_command_line = read_space(app, {}, ["training.epochs=3"])
    assert list(space.points()) == [{}]
    assert from_command_line, "so it is a grid"


@pytest.mark.parametrize(
    ("params", "arguments", "message"),
    [
        ({}, ["+experiment=mnist,quadratic"], "experiment cannot be swept"),
        ({"seed": {"space": "1,2", "if": {}}}, [], "Received the key 'if'. Expected space and"),
    ],
)
def test_what_cannot_be_a_space_is_refused(
    app: App, params: dict, arguments: list[str], message: str
) -> None:
    with pytest.raises(SpaceError) as error:
        read_space(app, params, arguments)
    assert message in str(error.value)


def test_points_that_can_be_counted_make_a_grid(settings) -> None:
    typed = settings("seed=1,2,3", "training.epochs=range(2)", n_trials=20)
    assert (typed.grid, typed.n_trials) == (True, 6)
    params = settings("seed=1,2,3", typed=False)
    assert (params.grid, params.n_trials) == (True, 3)
    counted = settings("seed=1,2,3", typed=False, n_trials=20)
    assert (counted.grid, counted.n_trials) == (False, 20)


@pytest.mark.parametrize("wish", ["hydra.sweeper.n_trials=2", "hydra/sweeper/sampler=random"])
def test_asking_for_a_count_or_a_sampler_makes_no_grid(
    loader: ConfigLoader, make_space: Callable[..., SearchSpace], wish: str
) -> None:
    config = loader.load_configuration("config", [wish], run_mode=RunMode.MULTIRUN)
    asking = App(("-m", "dlsweep"), True, loader, config)
    limits = sweep_settings(asking, {**OPTIONS, "n_trials": 2}, make_space("seed=1,2,3"), True)
    assert (limits.grid, limits.n_trials) == (False, 2)


def test_a_space_without_end_needs_one(settings) -> None:
    with pytest.raises(ConfigError, match=r"hydra\.sweeper\.n_trials=<count>"):
        settings(INTERVAL)
    assert settings(INTERVAL, timeout=5.0).n_trials is None
    assert settings(INTERVAL, n_trials=5).n_trials == 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_trials": 0}, "hydra.sweeper.n_trials: Received 0. Expected 1 or more"),
        ({"n_trials": 1, "n_jobs": -1}, "hydra.sweeper.n_jobs: Received -1. Expected 1 or more"),
        ({"n_trials": 1, "max_failure_rate": 2}, "Received 2. Expected a share from 0 to 1"),
    ],
)
def test_a_limit_that_makes_no_sense_is_refused(settings, options: dict, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        settings(INTERVAL, **options)
    assert message in str(error.value)


def test_a_study_lies_in_its_folder_under_its_name(study) -> None:
    asked = study()
    assert asked.storage == f"sqlite:///{Path('out').absolute()}/study.db"
    assert (asked.name, asked.objective, asked.directions) == ("default", ["loss"], ["minimize"])
    elsewhere = study(storage="sqlite:///x.db", study_name="mine", metric=None, direction="max")
    assert (elsewhere.storage, elsewhere.name) == ("sqlite:///x.db", "mine")
    assert (elsewhere.objective, elsewhere.directions) == (["objective"], ["maximize"])


def test_a_grid_prunes_nothing(study) -> None:
    assert study("seed=1,2", grid=True).pruner == {}
    assert study("seed=1,2").pruner == OPTIONS["pruner"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metric": ["a", "b"]}, "Received 2 metrics and 1 directions"),
        ({"direction": "up"}, "Received 'up'. Expected minimize or maximize"),
    ],
)
def test_objectives_and_directions_must_fit(study, options: dict, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        study(**options)
    assert message in str(error.value)


def test_a_studys_identity_is_its_space_and_what_is_fixed(study) -> None:
    identity = study("seed=1,2", "training/optimizer=adam,sgd").identity
    assert identity["space of seed"] == "1,2"
    assert identity["space of training/optimizer"] == "adam,sgd"
    assert identity["training.epochs"] == "2"
    assert identity["model.hidden"] == "[256, 128]"
    rooms = {key.partition(".")[0] for key in identity}
    assert not rooms & {"seed", "launcher", "tracking", "outputs", "hydra"}


def test_no_pruner_is_none_whatever_an_experiment_sets_of_it(study) -> None:
    assert study(pruner={"max_resource": 27}).pruner == {}
    hyperband = {"_target_": "optuna.pruners.HyperbandPruner", "max_resource": 27}
    assert study(pruner=hyperband).pruner == hyperband
