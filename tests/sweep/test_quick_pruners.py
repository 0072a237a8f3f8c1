"""The pruners for large studies decide as Optuna's do, and read no trial for it."""

from __future__ import annotations

import math
import random
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from dlsweep.sweep.parts import build
from dlsweep.sweep.seen import SeenStorage

STUDIES = 10


def opened(direction: str, pruner: Any, disk: Any = None) -> optuna.Study:
    disk = disk or optuna.storages.InMemoryStorage()
    storage = SeenStorage(disk, "study", [direction])
    return optuna.load_study(study_name="study", storage=storage, pruner=pruner)


def percentile(dice: random.Random) -> dict[str, Any]:
    share = {"percentile": dice.choice([0.0, 10.0, 25.0, 33.3, 75.0, 100.0])}
    is_median = dice.random() < 0.4
    return {
        "_target_": f"optuna.pruners.{'Median' if is_median else 'Percentile'}Pruner",
        **({} if is_median else share),
        "n_startup_trials": dice.choice([0, 1, 5]),
        "n_warmup_steps": dice.choice([0, 0, 2]),
        "interval_steps": dice.choice([1, 1, 3]),
        "n_min_trials": dice.choice([1, 1, 4]),
    }


def patient(dice: random.Random) -> dict[str, Any]:
    patience = {"patience": dice.choice([0, 1, 2]), "min_delta": dice.choice([0.0, 0.1])}
    target = "optuna.pruners.PatientPruner"
    return {"_target_": target, "wrapped_pruner": percentile(dice), **patience}


def halving(dice: random.Random) -> dict[str, Any]:
    least = dice.choice(["auto", 1, 2])
    return {
        "_target_": "optuna.pruners.SuccessiveHalvingPruner",
        "min_resource": least,
        "reduction_factor": dice.choice([2, 3, 4]),
        "min_early_stopping_rate": dice.choice([0, 0, 1]),
        "bootstrap_count": 0 if least == "auto" else dice.choice([0, 0, 3]),
    }


def hyperband(dice: random.Random) -> dict[str, Any]:
    most = dice.choice(["auto", 9])
    return {
        "_target_": "optuna.pruners.HyperbandPruner",
        "min_resource": dice.choice([1, 2]),
        "max_resource": most,
        "reduction_factor": dice.choice([2, 3]),
        "bootstrap_count": 0 if most == "auto" else dice.choice([0, 2]),
    }


def optunas(config: dict[str, Any]) -> Any:
    """The pruner as Optuna would build it."""
    options = {k: optunas(v) if isinstance(v, dict) else v for k, v in config.items()}
    return getattr(optuna.pruners, options.pop("_target_").rpartition(".")[2])(**options)


def value(dice: random.Random, oddities: bool) -> float:
    odd = [math.nan, math.inf, -math.inf]
    number = round(dice.gauss(0, 1), 1)  # equal ones are common
    return dice.choice(odd) if oddities and dice.random() < 0.15 else number


def judged_alike(dice: random.Random, config: dict[str, Any], oddities: bool) -> list[bool]:
    """Runs the same trials in two studies, some at a time; returns the verdicts."""
    direction = dice.choice(["minimize", "maximize"])
    disk = optuna.storages.InMemoryStorage()
    ours, theirs = opened(direction, build("pruner", config), disk), opened(direction, None)
    theirs.pruner = optunas(config)
    running: list[tuple[optuna.Trial, optuna.Trial]] = []
    steps: dict[int, int] = {}
    verdicts = []
    for _ in range(120):
        if dice.random() < 0.02:  # a driver that resumes opens the study anew
            ours = opened(direction, build("pruner", config), disk)
            theirs.pruner = optunas(config)
            running = [(optuna.Trial(ours, mine._trial_id), other) for mine, other in running]
        if len(running) < 3:
            running.append((ours.ask(), theirs.ask()))
            ours._storage.flush()
        mine, other = dice.choice(running)
        steps[mine.number] = steps.get(mine.number, 0) + dice.choice([1, 1, 1, 2])
        reported = value(dice, oddities)
        mine.report(reported, steps[mine.number])
        other.report(reported, steps[mine.number])
        verdicts.append(other.should_prune())
        assert mine.should_prune() == verdicts[-1], (config, direction, steps)
        if verdicts[-1] or dice.random() < 0.15:
            running.remove((mine, other))
            failed = dice.random() < 0.1
            state = TrialState.FAIL if failed else None
            state = state or (TrialState.PRUNED if verdicts[-1] else TrialState.COMPLETE)
            ended = 1.0 if state is TrialState.COMPLETE else None
            ours.tell(mine, ended, state)
            theirs.tell(other, ended, state)
    return verdicts


@pytest.mark.filterwarnings("ignore:All-NaN", "ignore:invalid value", "ignore:.*experimental")
@pytest.mark.parametrize("oddities", [False, True], ids=["numbers", "nan and infinity"])
@pytest.mark.parametrize("config", [percentile, patient, halving, hyperband])
def test_every_verdict_is_optunas(config, oddities) -> None:
    verdicts: list[bool] = []
    for seed in range(STUDIES):
        dice = random.Random(seed)
        verdicts += judged_alike(dice, config(dice), oddities)
    assert {True, False} == set(verdicts)


@pytest.mark.parametrize(
    "config",
    [
        {"_target_": "optuna.pruners.MedianPruner"},
        {"_target_": "optuna.pruners.PercentilePruner", "percentile": 25.0},
        {"_target_": "optuna.pruners.SuccessiveHalvingPruner", "min_resource": 1},
        {"_target_": "optuna.pruners.HyperbandPruner", "max_resource": 9},
    ],
    ids=lambda config: config["_target_"].rpartition(".")[2],
)
def test_a_verdict_reads_no_other_trial(config, monkeypatch) -> None:
    study = opened("minimize", build("pruner", config))
    for number in range(40):
        trial = study.ask()
        trial.report(number % 7, 1)
        trial.should_prune()
        study.tell(trial, 1.0)
    trials = [study.ask() for _ in range(10)]
    monkeypatch.setattr(SeenStorage, "get_all_trials", None)
    for trial in trials:
        trial.report(9.0, 1)
    assert any(trial.should_prune() for trial in trials)
