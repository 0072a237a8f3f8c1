"""Population based training: when a trial is ranked, who copies whom, and what changes."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from typing import Any

import pytest

from dlsweep.errors import ConfigError
from dlsweep.sweep.pbt import PopulationBasedTraining, check_population
from dlsweep.sweep.space import SearchSpace

TARGET = "dlsweep.sweep.pbt.PopulationBasedTraining"
NEVER, ALWAYS = {"resample_probability": 0.0}, {"resample_probability": 1.0}


def rules(**options: Any) -> PopulationBasedTraining:
    return PopulationBasedTraining(**{"perturbation_interval": 2, "max_resource": 9, **options})


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"perturbation_interval": 0}, "perturbation_interval: Received 0 for trainings of 9"),
        ({"perturbation_interval": 9}, "that is less than these"),
        ({"perturbation_interval": 1.5}, "Expected a whole number of steps"),
        ({"quantile_fraction": 0}, "quantile_fraction: Received 0. Expected a share above 0"),
        ({"quantile_fraction": 0.6}, "up to 0.5"),
        ({"quantile_fraction": "half"}, "quantile_fraction: Received 'half'"),
        ({"resample_probability": 2}, "resample_probability: Received 2. Expected a probability"),
        ({"perturbation_factors": []}, "perturbation_factors: Received []. Expected numbers"),
        ({"perturbation_factors": [1.2, -1]}, "Expected numbers above 0"),
    ],
)
def test_rules_out_of_range_are_refused(options: dict, says: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(says)):
        rules(**options)


def test_a_trial_is_ranked_after_each_interval_but_not_at_its_end() -> None:
    at = rules(perturbation_interval=3)
    boundaries = [step for step in range(1, 10) if at.is_boundary(step - 1, step, base=0)]
    assert boundaries == [3, 6]
    assert [s for s in range(5, 10) if at.is_boundary(s - 1, s, base=4)] == [7], "3 after copying"
    assert at.is_boundary(2, 5, base=0), "a training may log only some steps"


def test_the_best_are_copied_by_the_worst() -> None:
    values = {number: float(number) for number in range(8)}
    assert rules().quantiles(values) == ([7, 6], [1, 0])
    assert rules(maximize=True).quantiles(values) == ([0, 1], [6, 7])
    assert rules().quantiles({4: 1.0}) == ([], []), "one has nobody to copy"
    assert rules(quantile_fraction=0.5).quantiles({1: 1.0, 2: 2.0, 3: 3.0}) == ([3], [1])
    assert rules().quantiles({1: 0.0, 2: 0.0}) == ([2], [1]), "of equal ones the earlier is better"


@pytest.mark.parametrize(
    ("text", "value", "near"),
    [
        ("seed=interval(0.0,1.0)", 0.5, {0.6, 0.4}),
        ("seed=interval(0.0,1.0)", 0.9, {1.0, 0.72}),
        ("seed=tag(log,interval(1e-4,1e-1))", 1e-4, {1.2e-4, 1e-4}),
        ("seed=interval(0.0,1.0)", 0.0, {0.0}),
        ("seed=int(interval(1,100))", 50, {60, 40}),
        ("seed=int(interval(1,100))", 2, {3, 1}),
        ("seed=range(0,10,2)", 4, {6, 2}),
        ("seed=range(0.1,0.5,0.1)", 0.2, {0.3, 0.1}),
        ("seed=1,2,4,8", 2, {1, 4}),
        ("seed=a,b,c", "a", {"b"}),
        ("seed=null,1", 1, {None}),
    ],
)
def test_a_hyperparameter_moves_a_little(
    make_space: Callable[..., SearchSpace], text: str, value: Any, near: set
) -> None:
    (dimension,) = make_space(text).dimensions
    found = {rules(**NEVER).explore(dimension, value, random.Random(n)) for n in range(40)}
    assert len(found) == len(near)
    assert all(any(one == new or one == pytest.approx(new) for one in near) for new in found)


@pytest.mark.parametrize(
    "text",
    [
        "seed=interval(2.0,3.0)",
        "seed=tag(log,int(interval(2,900)))",
        "seed=range(2,9,3)",
        "seed=a,b",
    ],
)
def test_a_hyperparameter_is_drawn_anew_from_all_its_values(
    make_space: Callable[..., SearchSpace], text: str
) -> None:
    (dimension,) = make_space(text).dimensions
    ends = dimension.ends()
    found = {rules(**ALWAYS).explore(dimension, ends[0], random.Random(n)) for n in range(60)}
    allowed = set(dimension.values()) if dimension.count else None
    assert found <= allowed if allowed else all(ends[0] <= one <= ends[-1] for one in found)
    assert len(found) == min(len(allowed or found), len(found)) > 1


def test_only_values_change_never_groups(make_space: Callable[..., SearchSpace]) -> None:
    lr, momentum = "training.optimizer.lr", "training.optimizer.momentum"
    space = make_space("training/optimizer=adam,sgd", f"{lr}=0.1,0.2", f"{momentum}=0.5,0.9")
    assert rules().keys(space) == [lr, momentum]
    assert rules(perturb=[lr]).keys(space) == [lr]
    with pytest.raises(ConfigError, match="training/optimizer, which is a config group"):
        rules(perturb=["training/optimizer"]).keys(space)
    with pytest.raises(ConfigError, match=r"optimizer\.l, which is not swept.* Did you mean"):
        rules(perturb=["training.optimizer.l"]).keys(space)
    with pytest.raises(ConfigError, match="No key is swept that"):
        rules().keys(make_space("training/optimizer=adam,sgd"))


@pytest.mark.parametrize(("n_trials", "grid"), [(None, False), (1, False), (6, True)])
def test_a_population_needs_trials(n_trials: int | None, grid: bool) -> None:
    with pytest.raises(ConfigError, match="The trials are the population"):
        check_population({"_target_": TARGET}, n_trials, grid)
    check_population({"_target_": TARGET}, 2, grid=False)
    check_population({"_target_": "optuna.pruners.MedianPruner"}, n_trials, grid)
