"""A point that a user gives is read in Hydra's grammar and must be in the study's space."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dlsweep.errors import ConfigError, StudyError
from dlsweep.sweep.points import read_point
from dlsweep.sweep.space import SearchSpace

CHOICE, MOMENTUM = "training/optimizer", "training.optimizer.momentum"


@pytest.fixture(scope="session")
def record(make_space: Callable[..., SearchSpace]) -> dict:
    """The space as ``study.json`` has it."""
    space = make_space(
        f"{CHOICE}=adam,sgd",
        f"{MOMENTUM}=interval(0.0,0.9)",
        "seed=range(100)",
        "training.batch_size=range(16,257,16)",
        "+shape=[1,2],[3]",
    )
    return space.record()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (f"{CHOICE}=sgd", "sgd"),
        (f"{MOMENTUM}=1e-3", 0.001),
        ("seed=7", 7),
        ("training.batch_size=32", 32),
        ("shape=[1,2]", "[1,2]"),
        ("+shape=[3]", "[3]"),
    ],
)
def test_a_value_is_what_the_sampler_would_suggest(record, text: str, value: object) -> None:
    (found,) = read_point([text], record).values()
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("texts", "sentence"),
    [
        (["seeds=1"], r"'seeds' is not swept. Did you mean 'seed'\?"),
        (["qqq=1"], "'qqq' is not swept. Expected training/optimizer, training"),
        (["seed=100"], "seed=100 is outside of its space, whole numbers from 0 to 99."),
        (["seed=1.5"], "seed=1.5 is outside"),
        (["seed=null"], "seed=None is outside"),
        (["training.batch_size=33"], "16 to 256 in steps of 16"),
        ([f"{MOMENTUM}=nan"], "0 to 0.9"),
        ([f"{CHOICE}=adamw"], "adam, sgd"),
        (["shape=[9]"], "outside of its space"),
        (["seed=1", "seed=2"], "given twice"),
        (["seed=1,2"], "no single value"),
        (["~seed=1"], "no single value"),
        (["seed"], "Expected key=value"),
    ],
)
def test_a_point_outside_of_the_space_is_refused(record, texts: list[str], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        read_point(texts, record)


def test_a_damaged_space_is_named() -> None:
    with pytest.raises(StudyError, match="damaged"):
        read_point(["seed=1"], {"seed": {"name": "os.system", "attributes": {}}})
