"""Trackers that come later, and the comparison of a study with its views."""

from __future__ import annotations

import json

import pandas as pd
import pytest

pytestmark = pytest.mark.slow


def test_a_study_can_be_told_to_other_trackers_later_and_compared(project) -> None:
    project.run(
        "+experiment=quadratic",
        "tracking=[csv]",
        "hydra.sweeper.n_trials=3",
        "training.steps=2",
        "-m",
    )
    study = project.path / "outputs" / "quadratic"
    same = "The study, its folders and its trackers agree.\n"
    tables = [pd.read_csv(file) for file in (study / "csv").glob("*.csv")]
    records = sum(len(table.groupby("time")) for table in tables)
    for expected in (records, 0):
        assert (
            project.run("sync", str(study), "tensorboard")
            == f"tensorboard: {expected} new records\n"
        )
    assert project.run("verify", str(study)) == same
    assert project.run("verify", str(study), "tensorboard", "csv") == same

    (study / "csv" / "0001.csv").unlink()
    lost = project.run("verify", str(study), "csv", code=1)
    assert "0001 in csv: " in lost
    assert f"python -m dlsweep verify {study} csv --repair" in lost
    assert "; synced again" in project.run("verify", str(study), "--repair")
    assert project.run("verify", str(study)) == same

    result = study / "trials" / "0002" / "result.json"
    result.write_text(json.dumps({**json.loads(result.read_text()), "status": "crashed"}))
    said = project.run("verify", str(study), code=1)
    assert "0002 in the study: it is completed there, and its folder says crashed" in said


def test_an_unknown_tracker_or_option_is_refused(project) -> None:
    project.run("+experiment=quadratic", "tracking=none", "training.steps=1", "hydra.run.dir=one")
    said = project.run("sync", "one", "tensorbord", code=1)
    assert "The group 'tracking' has no choice 'tensorbord'." in said
    said = project.run("sync", "one", "tracking.wandb.projekt=x", code=1)
    assert "Did you mean 'tracking.wandb.project'" in said
    assert project.run("sync", "one", "csv") == "csv: 2 new records\n", "the step, and what it cost"


def test_models_report_and_traces_come_later_and_are_compared(warm_project) -> None:
    warm_project.run(
        *("+experiment=mnist", "tracking=none", "training.epochs=1", "training.profiler=[1,2]"),
        *("training.optimizer.lr=0.001,0.01", "-m"),
    )
    study = warm_project.path / "outputs" / "mnist"
    asked = ("mlflow", "tensorboard", "tracking.mlflow.registered_model_name=digits")
    same = "The study, its folders and its trackers agree.\n"
    warm_project.run("sync", str(study), *asked)
    assert warm_project.run("verify", str(study), *asked) == same

    (kept,) = (warm_project.path / "outputs").glob("mlartifacts/*/models/*/artifacts")
    (kept / "data" / "run.json").unlink()
    (report,) = (warm_project.path / "outputs").glob("mlartifacts/*/*/artifacts/report.html")
    report.unlink()
    (study / "tensorboard" / "0001" / "trace.pt.trace.json").unlink()
    said = warm_project.run("verify", str(study), *asked, code=1)
    assert "the study in mlflow: its report.html is missing\n" in said
    assert "the study in mlflow: its model has no data/run.json\n" in said
    assert "0001 in tensorboard: the trace trace.pt.trace.json is missing" in said
    assert warm_project.run("verify", str(study), *asked, code=1) == said, "looking mends nothing"
    assert "; synced again" in warm_project.run("verify", str(study), *asked, "--repair")
    assert warm_project.run("verify", str(study), *asked) == same
    versions = warm_project.path / "outputs" / "mlartifacts"
    assert len([*versions.glob("*/models/*")]) == 1


def test_a_registered_name_without_mlflow_is_refused(project) -> None:
    said = project.run(
        "+experiment=quadratic", "tracking=csv", "tracking.mlflow.registered_model_name=x", code=1
    )
    assert "The config has no key 'tracking.mlflow.registered_model_name'." in said
    assert "exist only if it is configured. Type  tracking=[mlflow]" in said
    refused = project.run("+experiment=quadratic", "tracking.mlflow.log_model=some", code=1)
    assert "tracking.mlflow.log_model: Received 'some'. Expected best, all or none." in refused
