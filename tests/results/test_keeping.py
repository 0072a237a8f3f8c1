"""Which trials are the best few: by the objective, or front by front."""

from __future__ import annotations

import random

import optuna
import pytest

from dlsweep.results.keeping import kept_trials


def test_every_completed_trial_stays_unless_a_number_is_asked_for() -> None:
    values = {0: [0.5], 3: [0.7], 4: [0.1]}
    assert kept_trials(values, ["maximize"], "best") == {0, 3, 4}
    assert kept_trials(values, ["maximize"], "all") == {0, 3, 4}


def test_the_best_by_the_objective_stay_and_of_equal_ones_the_earlier() -> None:
    values = {0: [0.5], 1: [0.7], 2: [0.7], 3: [0.1]}
    assert kept_trials(values, ["maximize"], 1) == {1}
    assert kept_trials(values, ["maximize"], 2) == {1, 2}
    assert kept_trials(values, ["minimize"], 2) == {3, 0}
    assert kept_trials(values, ["minimize"], 9) == {0, 1, 2, 3}
    assert kept_trials({}, ["minimize"], 9) == set()


def test_of_several_objectives_the_front_stays_whole_then_the_next_follow() -> None:
    front = {0: [0.9, 9.0], 1: [0.5, 1.0], 2: [0.7, 3.0]}
    second = {3: [0.8, 9.5], 4: [0.6, 3.5], 5: [0.4, 1.5]}
    last = {6: [0.1, 20.0]}
    values = {**last, **second, **front}
    directions = ["maximize", "minimize"]
    assert kept_trials(values, directions, 1) == {0, 1, 2}
    assert kept_trials(values, directions, 3) == {0, 1, 2}
    assert kept_trials(values, directions, 4) == {0, 1, 2, 3}, "by the first objective"
    assert kept_trials(values, directions, 6) == {0, 1, 2, 3, 4, 5}
    assert kept_trials(values, directions, 50) == set(values)
    assert kept_trials({}, directions, 3) == set()


@pytest.mark.parametrize("seed", range(20))
def test_the_first_front_is_optunas(seed: int) -> None:
    dice = random.Random(seed)
    directions = ["minimize", "maximize", "minimize"][: 2 + seed % 2]
    study = optuna.create_study(directions=directions)
    for _ in range(30):  # few values, so that there are equal ones
        study.tell(study.ask(), [float(dice.randint(0, 4)) for _ in directions])
    values = {trial.number: trial.values for trial in study.trials}
    assert kept_trials(values, directions, 1) == {one.number for one in study.best_trials}
