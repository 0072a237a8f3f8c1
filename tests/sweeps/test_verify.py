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
    same = "The study, its folders and its trackers hold the same.\n"
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
    assert "; told again" in project.run("verify", str(study), "--repair")
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
