"""Hydra's sweep grammar on one side, Optuna's distributions on the other."""

from __future__ import annotations

import itertools
import re
import tracemalloc
from collections.abc import Callable
from typing import Any

import optuna
import pytest
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from dlsweep.errors import SpaceError
from dlsweep.sweep.compose import Composer
from dlsweep.sweep.space import Dimension, SearchSpace, dimension_of

OPTIMIZER = "training/optimizer=adam,sgd"
MOMENTUM = "training.optimizer.momentum=0.5,0.9"

MakeSpace = Callable[..., SearchSpace]


@pytest.fixture
def read(composer: Composer) -> Callable[[str], Dimension]:
    return lambda text: dimension_of(composer.parse([text])[0])


@pytest.mark.parametrize(
    ("text", "choices"),
    [
        ("seed=1,2,3", (1, 2, 3)),
        ("seed=choice(1,2)", (1, 2)),
        ("seed=sort(3,1,2)", (1, 2, 3)),
        ("seed=null,1", (None, 1)),
        ("seed=true,false", (True, False)),
        ("seed='1',1", ("1", 1)),
        ("seed='null',null", ("null", None)),
        ("seed=choice(a,'b c',\"d,e\")", ("a", "b c", "d,e")),
        ("seed=[1,2],[3]", ("[1,2]", "[3]")),
        ("seed={a:1},{a:2}", ("{a:1}", "{a:2}")),
        ("training/optimizer=glob(*)", ("adam", "adamw", "sgd")),
        ("training/optimizer=glob(ad*,exclude=adamw)", ("adam",)),
    ],
)
def test_choices_become_a_categorical(read, text: str, choices: tuple) -> None:
    dimension = read(text)
    assert dimension.distribution == CategoricalDistribution(choices)
    assert [type(one) for one in dimension.values()] == [type(one) for one in choices]


@pytest.mark.parametrize(
    ("text", "distribution", "values"),
    [
        ("seed=range(1,5)", IntDistribution(1, 4), [1, 2, 3, 4]),
        ("seed=range(3)", IntDistribution(0, 2), [0, 1, 2]),
        ("seed=range(1,10,3)", IntDistribution(1, 7, step=3), [1, 4, 7]),
        ("seed=range(5,1,-2)", IntDistribution(3, 5, step=2), [5, 3]),
        ("seed=range(0,1,0.3)", FloatDistribution(0, 0.9, step=0.3), [0.0, 0.3, 0.6, 0.9]),
        ("seed=range(0,0.9,0.3)", FloatDistribution(0, 0.6, step=0.3), [0.0, 0.3, 0.6]),
        ("seed=range(0.3,0,-0.1)", FloatDistribution(0.1, 0.3, step=0.1), [0.3, 0.2, 0.1]),
        ("seed=float(range(1,3))", FloatDistribution(1, 2, step=1), [1.0, 2.0]),
        ("seed=tag(log,range(1,9,4))", IntDistribution(1, 5, log=True), [1, 5]),
        ("seed=tag(log,range(0.1,1,0.3))", FloatDistribution(0.1, 0.7, log=True), [0.1, 0.4, 0.7]),
        ("seed=int(interval(1,3))", IntDistribution(1, 3), [1, 2, 3]),
        ("seed=tag(log,int(interval(1,3)))", IntDistribution(1, 3, log=True), [1, 2, 3]),
        ("seed=int(tag(log,interval(1,3)))", IntDistribution(1, 3, log=True), [1, 2, 3]),
        ("seed=interval(1,5)", FloatDistribution(1, 5), None),
        ("seed=interval(-5.5,-1)", FloatDistribution(-5.5, -1), None),
        ("seed=tag(log,interval(1e-4,1e-1))", FloatDistribution(1e-4, 0.1, log=True), None),
    ],
)
def test_ranges_and_intervals_become_numbers(
    read, text: str, distribution: BaseDistribution, values: list | None
) -> None:
    dimension = read(text)
    assert dimension.distribution == distribution
    assert list(dimension.values()) == (values or [])
    assert dimension.count == (None if values is None else len(values))


@pytest.mark.parametrize(
    "text",
    [
        "data.folder=a,'b c',\"d,e\",null,true,2,1.5,[1,'x y'],{a:{b:[2]}},'null',''",
        "training.optimizer.lr=1e-05,1e3,0.1",
        "seed=range(5,-5,-3)",
    ],
)
def test_a_value_goes_out_as_hydra_would_write_it(read, composer: Composer, text: str) -> None:
    dimension = read(text)
    hydras = [points[0] for points in BasicSweeper.split_arguments(composer.parse([text]), None)[0]]
    ours = [dimension.override(value) for value in dimension.values()]
    assert [one.value() for one in composer.parse(ours)] == [
        one.value() for one in composer.parse(hydras)
    ]


@pytest.mark.parametrize(
    ("text", "points"),
    [
        ("seed=tag(log,range(8,65,8))", set(range(8, 65, 8))),
        ("seed=range(0.1,0.9,0.2)", {0.1, 0.3, 0.5, 0.7}),
    ],
)
def test_what_a_sampler_draws_from_a_range_lands_on_its_grid(
    make_space: MakeSpace, text: str, points: set
) -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    space = make_space(text)
    assert {space.suggest(study.ask())["seed"] for _ in range(200)} == points


def test_a_value_of_a_key_that_is_added_keeps_its_plus(read) -> None:
    assert read("+training.note=1,2").override(2) == "+training.note=2"
    assert read("++seed=1,2").override(2) == "++seed=2"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed=range(5,1)", "seed: range(5,1) is empty. Expected range(start, stop, step)"),
        ("seed=range(1,5,0)", "Expected a step other than 0"),
        ("seed=interval(5,1)", "Received interval(5,1). Expected interval(low, high)"),
        ("seed=interval(1,1)", "with low below high"),
        ("seed=interval(0,inf)", "with low below high"),
        ("seed=tag(log,interval(0,1))", "Expected an interval above 0 under the tag log"),
        ("seed=tag(log,range(0,9))", "Expected a range above 0 under the tag log"),
        ("seed=tag(log,choice(1,2))", "the tag log needs numbers in order"),
        ("seed=tag(lag,interval(1,2))", "Received the tag 'lag'. Expected: log"),
        ("seed=1,2,1", "1 is twice among its choices"),
        ("training/optimizer=glob(x*)", "the pattern ['x*'] is empty"),
        ("seed=shuffle(1,2,3)", "hydra/sweeper/sampler=random"),
        ("seed=shuffle(range(1,4))", "Leave out shuffle"),
        ("~seed=1,2", "A deletion cannot be swept"),
    ],
)
def test_a_space_that_cannot_be_searched_says_what_to_type(read, text: str, message: str) -> None:
    with pytest.raises(SpaceError) as error:
        read(text)
    assert message in str(error.value)


def test_a_key_of_no_config_names_the_nearest(make_space: MakeSpace) -> None:
    with pytest.raises(SpaceError) as error:
        make_space("training.optimizer.lrr=1,2")
    assert "'training.optimizer.lrr' does not exist in any config" in str(error.value)
    assert "Did you mean 'training.optimizer.lr'" in str(error.value)
    assert "write  +training.optimizer.lrr=1,2" in str(error.value)


def test_a_key_swept_twice_is_refused(make_space: MakeSpace) -> None:
    with pytest.raises(SpaceError, match="seed is swept twice"):
        make_space("seed=1,2", "seed=3,4")


def test_a_value_exists_where_its_group_choice_has_the_key(make_space: MakeSpace) -> None:
    space = make_space(MOMENTUM, OPTIMIZER)
    assert list(space.points()) == [
        {"training/optimizer": "adam"},
        {"training/optimizer": "sgd", "training.optimizer.momentum": 0.5},
        {"training/optimizer": "sgd", "training.optimizer.momentum": 0.9},
    ]
    assert space.active_under() == {"training.optimizer.momentum": ["training/optimizer=sgd"]}


def test_suggestions_follow_the_choice(make_space: MakeSpace) -> None:
    space = make_space(OPTIMIZER, "training.optimizer.momentum=interval(0.0,0.9)")
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    drawn = [space.suggest(study.ask()) for _ in range(30)]
    by_choice = {point["training/optimizer"]: len(point) for point in drawn}
    assert by_choice == {"adam": 1, "sgd": 2}


def test_overrides_set_groups_before_values(make_space: MakeSpace) -> None:
    space = make_space(MOMENTUM, OPTIMIZER)
    params = {"training.optimizer.momentum": 0.5, "training/optimizer": "sgd"}
    assert space.overrides(params) == ["training/optimizer=sgd", "training.optimizer.momentum=0.5"]


def test_a_condition_limits_a_value_to_others_values(make_space: MakeSpace) -> None:
    space = make_space(
        "seed=range(2)", "training.epochs=1,2", when={"seed": {"training.epochs": [2]}}
    )
    assert list(space.points()) == [
        {"training.epochs": 1},
        {"training.epochs": 2, "seed": 0},
        {"training.epochs": 2, "seed": 1},
    ]
    assert space.active_under() == {"seed": ["training.epochs=2"]}


def test_a_condition_on_what_is_not_swept_names_the_nearest(make_space: MakeSpace) -> None:
    with pytest.raises(SpaceError) as error:
        make_space("seed=1,2", "training.epochs=1,2", when={"seed": {"training.epoch": [1]}})
    assert "'training.epoch', which is not swept. Did you mean 'training.epochs'?" in str(
        error.value
    )


@pytest.mark.parametrize(
    "texts",
    [
        ("seed=1,2", "training.epochs=range(1,4)", "model.dropout=0.1,0.2"),
        ("seed=2,1", "training/optimizer=sgd,adam", "model.dropout=range(4,0,-2)"),
    ],
)
def test_points_come_in_hydras_own_order(
    make_space: MakeSpace, composer: Composer, texts: tuple[str, ...]
) -> None:
    space = make_space(*texts)
    (hydras,) = BasicSweeper.split_arguments(composer.parse(texts), None)
    ours = [space.overrides(point) for point in space.points()]
    assert [set(one) for one in ours] == [set(one) for one in hydras]


def test_only_a_space_without_an_interval_is_finite(make_space: MakeSpace) -> None:
    assert make_space("seed=1,2", "training.epochs=range(1,3)").is_finite
    assert not make_space("seed=1,2", "model.dropout=interval(0,0.5)").is_finite


def test_probes_try_both_ends_under_every_choice(make_space: MakeSpace) -> None:
    space = make_space(
        OPTIMIZER,
        "training.optimizer.momentum=interval(0.1,0.9)",
        "training.optimizer.lr=tag(log,interval(1e-4,1e-1))",
        "data.seed=1,2,3",
    )
    tried: dict[str, dict[str, set]] = {"adam": {}, "sgd": {}}
    for probe in space.probes():
        for key, value in probe.items():
            tried[probe["training/optimizer"]].setdefault(key, set()).add(value)
    always = {"training.optimizer.lr": {1e-4, 0.1}, "data.seed": {1, 2, 3}}
    assert tried["adam"] == {"training/optimizer": {"adam"}, **always}
    assert tried["sgd"] == {
        "training/optimizer": {"sgd"},
        **always,
        "training.optimizer.momentum": {0.1, 0.9},
    }


@pytest.mark.parametrize(
    ("text", "count", "nearest"),
    [
        ("seed=range(0,10000000000)", 10**10, (123456789.2, 123456789)),
        ("data.validation=range(0,1e9,1)", 10**9, (123456789.2, 123456789.0)),
        ("seed=int(interval(0,1e12))", 10**12 + 1, None),
    ],
)
def test_a_huge_range_costs_no_memory(make_space, text: str, count: int, nearest: Any) -> None:
    tracemalloc.start()
    space = make_space(text, "model.dropout=0.1,0.2")
    assert space.count() == 2 * count
    assert len(list(itertools.islice(space.points(), 5))) == 5
    assert next(space.probes())
    if nearest:
        assert space.dimensions[0].snap(nearest[0]) == nearest[1]
    assert tracemalloc.get_traced_memory()[1] < 10e6
    tracemalloc.stop()


@pytest.mark.parametrize("text", ["range(0,1,0.1)", "range(1,10,2)", "range(0.3,0,-0.1)"])
def test_a_sample_becomes_the_nearest_value(make_space, text: str) -> None:
    dimension = make_space(f"data.validation={text}").dimensions[0]
    values = list(dimension.values())
    for turn in range(-20, 120):
        sample = turn / 10
        assert dimension.snap(sample) == min(values, key=lambda value: abs(value - sample))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("seed=true,1", "The choices True and 1 are equal"),
        ("seed=1,1.0", "The choices 1 and 1.0 are equal"),
        ("seed=1,2,1", "1 is twice among its choices"),
    ],
)
def test_equal_choices_are_refused_with_the_reason(read, text: str, says: str) -> None:
    with pytest.raises(SpaceError, match=re.escape(says)):
        read(text)
