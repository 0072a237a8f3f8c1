from __future__ import annotations

import pytest

from dlsweep.folders.rundir import RunInfo
from dlsweep.trackers.names import run_name, short_keys


def info(name: str, number: int | None = None, **more: object) -> RunInfo:
    fields = {"id": "1", "objective": [], "directions": [], "tracking": {}, "created": 0.0}
    fields |= {"study": "mnist", "overrides": [], "params": {}}
    return RunInfo(**{**fields, **more}, name=name, number=number)


def test_a_trial_is_named_by_number_study_and_what_differs():
    params = {"training/optimizer": "sgd", "training.optimizer.lr": 0.0736464, "model.hidden": 115}
    name = run_name(info("0004", 4, params=params, overrides=["+experiment=mnist", "seed=1"]))
    assert name == "0004 mnist optimizer=sgd lr=0.07365 hidden=115"


def test_single_runs_differ_within_twelve_characters():
    overrides = ["+experiment=mnist", "training.epochs=3", "hydra.run.dir=x", "+model.depth=2"]
    names = [
        run_name(info(f"2026-11-27_13-41-{second}", overrides=overrides)) for second in ("02", "03")
    ]
    assert names[0] == "13-41-02 mnist epochs=3 depth=2"
    assert names[0][:12] != names[1][:12]
    assert run_name(info("mine", overrides=["+experiment=mnist"])) == "mine mnist"


def test_a_name_stays_within_its_length():
    name = run_name(info("0000", 0, params={f"key{k}": "x" * 20 for k in range(9)}))
    assert (len(name), name[-1]) == (120, "…")


@pytest.mark.parametrize(
    ("keys", "short"),
    [
        (["training.optimizer.lr", "training/optimizer"], ["lr", "optimizer"]),
        (["encoder.width", "decoder.width"], ["encoder.width", "decoder.width"]),
        (["a.encoder.width", "a.decoder.width", "b"], ["encoder.width", "decoder.width", "b"]),
        (["lr", "optimizer.lr"], ["lr", "optimizer.lr"]),
        (["db@source"], ["db@source"]),
    ],
)
def test_keys_are_as_short_as_they_can_be_told_apart(keys, short):
    assert short_keys(keys) == dict(zip(keys, short, strict=True))
