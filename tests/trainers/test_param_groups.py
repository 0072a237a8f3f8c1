"""Which parameters have options of their own, and which are frozen."""

from __future__ import annotations

import pytest

from dlsweep.errors import ConfigError
from dlsweep.trainers.param_groups import Options

NAMES = ["body.0.weight", "body.0.bias", "head.weight", "head.bias"]
GROUPS = {
    "body": {"match": "body.*", "lr": 1e-5},
    "biases": {"match": ".*bias", "weight_decay": 0, "lr": 1},
}


def test_a_parameter_has_the_options_of_all_its_groups_the_last_first() -> None:
    options = Options(GROUPS)
    options.check(NAMES)
    assert [options.of(name) for name in NAMES] == [
        {"lr": 1e-5},
        {"lr": 1.0, "weight_decay": 0.0},
        {},
        {"lr": 1.0, "weight_decay": 0.0},
    ]
    assert options.grouped((name, name) for name in NAMES) == [
        ({}, ["head.weight"]),
        ({"lr": 1e-5}, ["body.0.weight"]),
        ({"lr": 1.0, "weight_decay": 0.0}, ["body.0.bias", "head.bias"]),
    ]


def test_the_first_group_has_no_options_even_if_it_is_empty() -> None:
    options = Options({"all": {"match": ".*", "lr": 0.1}})
    assert options.grouped([("a", "a")]) == [({}, []), ({"lr": 0.1}, ["a"])]
    assert not Options()


@pytest.mark.parametrize(
    ("groups", "freeze", "message"),
    [
        (
            {"x": {"match": "tail.*", "lr": 1}},
            [],
            r"param_groups\.x\.match: Received 'tail\.\*', wh",
        ),
        ({}, ["body"], r"training\.freeze\[0\]: Received 'body', .* no (?s:.)*as body\.0\.weight"),
        ({}, ["body.*", "head.*"], r"which freezes all 4 parameters(?s:.)*head\.bias"),
        (GROUPS, ["body.*"], r"param_groups\.body\.match: .*freezes every parameter of it"),
    ],
)
def test_a_pattern_that_cannot_be_is_named_with_names_that_there_are(
    groups: dict, freeze: list, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        Options(groups, freeze).check(NAMES)


def test_a_long_list_of_names_is_cut() -> None:
    with pytest.raises(ConfigError, match=r"layer11\.weight and 88 more"):
        Options(freeze=["x"]).check([f"layer{number}.weight" for number in range(100)])


@pytest.mark.parametrize(
    ("group", "message"),
    [
        ({"match": "a", "lr": -1}, r"x\.lr: Received -1\. Expected a number, 0 or more"),
        ({"match": "a", "lr": "fast"}, r"x\.lr: Received 'fast'"),
        ({"match": "a", "learning_rate": 1}, r"x\.learning_rate: a group has no such option"),
        ({"match": "a"}, r"x: Received no option\. Expected lr or weight_decay"),
        ({"lr": 1}, r"Expected match, a pattern of names, and options"),
        ({"match": "a(", "lr": 1}, r"x\.match: Received 'a\(', which is no regular expression"),
        ({"match": 3, "lr": 1}, r"x\.match: Received 3, which is no regular expression"),
    ],
)
def test_a_group_that_cannot_be_is_refused(group: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Options({"x": group})
