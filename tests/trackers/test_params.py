from __future__ import annotations

from dlsweep.trackers.params import params_of


def test_leaves_are_named_by_their_path(make_run):
    run = make_run({"model": {"hidden": [256, 128], "dropout": 0.1}, "seed": 0, "note": None})
    assert params_of(run) == {
        "model.hidden": [256, 128],
        "model.dropout": 0.1,
        "seed": 0,
        "note": None,
    }


def test_what_the_sweep_chose_is_there_by_its_own_name(make_run):
    run = make_run({"lr": 0.1}, params={"lr": 0.5, "training/optimizer": "adam"})
    assert params_of(run) == {"lr": 0.5, "training/optimizer": "adam"}


def test_interpolations_are_resolved(make_run):
    run = make_run({"a": {"x": 3}, "b": "${a.x}", "c": ["${b}"], "d": "${a}"})
    assert params_of(run) == {"a.x": 3, "b": 3, "c": [3], "d": {"x": 3}}


def test_values_keep_their_types(make_run):
    run = make_run({"a": 1e-5, "b": True, "c": "1e-5", "d": "2026-01-01", "e": "yes", 4: "x"})
    assert params_of(run) == {
        "a": 1e-5,
        "b": True,
        "c": "1e-5",
        "d": "2026-01-01",
        "e": "yes",
        "4": "x",
    }


def test_what_the_environment_holds_stays_a_reference(make_run, monkeypatch):
    monkeypatch.setenv("TOKEN", "secret")
    run = make_run({"token": "${oc.env:TOKEN}", "url": "http://${token}@host", "list": ["${url}"]})
    assert "secret" not in str(params_of(run))
    assert params_of(run)["url"] == "http://${oc.env:TOKEN}@host"


def test_what_cannot_be_resolved_stays_as_it_is_written(make_run):
    run = make_run({"a": "${my_resolver:3}", "b": "${nowhere}", "c": "???", "d": "${c}"})
    assert params_of(run) == {"a": "${my_resolver:3}", "b": "${nowhere}", "c": "???", "d": "${c}"}
