"""The plan shows what a sweep would do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dlsweep.sweep.plan import show_plan
from dlsweep.sweep.space import SearchSpace
from dlsweep.sweep.study import StudySettings

TEXTS = (
    "training/optimizer=adam,sgd",
    "training.optimizer.momentum=interval(0.0,0.9)",
    "seed=range(3)",
)


def settings(storage: str, seed: int | None = 0) -> StudySettings:
    sampler = {"_target_": "optuna.samplers.RandomSampler", "seed": None}
    return StudySettings("mine", storage, ["loss"], ["minimize"], sampler, {}, seed)


def test_a_plan_names_the_space_and_the_first_trials_and_makes_no_file(
    make_space: Callable[..., SearchSpace], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked, space = settings(f"sqlite:///{tmp_path}/study.db"), make_space(*TEXTS)
    show_plan(asked, space, n_trials=2, grid=False)
    shown = capsys.readouterr().out
    assert shown.startswith("mine: 2 trials, RandomSampler, no pruner\n")
    rows = {line.split()[0]: line.split()[1:] for line in shown.splitlines()[2:5]}
    assert rows["seed"] == ["range(3)", "always"]
    assert rows["training.optimizer.momentum"] == ["interval(0.0,0.9)", "training/optimizer=sgd"]
    assert "The first trials:\n  0000  training/optimizer=" in shown
    assert "  0001  " in shown
    assert "  0002  " not in shown
    assert list(tmp_path.iterdir()) == []
    show_plan(asked, space, n_trials=2, grid=False)
    assert capsys.readouterr().out == shown


def test_without_a_seed_the_trials_are_but_examples(
    make_space: Callable[..., SearchSpace], capsys: pytest.CaptureFixture[str]
) -> None:
    show_plan(settings("", seed=None), make_space(*TEXTS), n_trials=None, grid=False)
    shown = capsys.readouterr().out
    assert shown.startswith("mine: until the timeout")
    assert "For example:\n  0000  " in shown


def test_the_plan_of_a_grid_shows_its_points_in_order(
    make_space: Callable[..., SearchSpace], capsys: pytest.CaptureFixture[str]
) -> None:
    show_plan(settings(""), make_space("seed=1,2", "data.seed=5,6"), n_trials=4, grid=True)
    shown = capsys.readouterr().out
    assert shown.startswith("mine: 4 trials, every point once, no pruner")
    lines = [line.split()[1:] for line in shown.splitlines() if line.startswith("  000")]
    assert lines == [[f"seed={a}", f"data.seed={b}"] for a in (1, 2) for b in (5, 6)]
