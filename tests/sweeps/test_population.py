"""A population of digits: what is copied, changed, and recorded."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dlsweep.trackers.wandb.offline import read_offline

pytestmark = pytest.mark.slow
LR, DROPOUT, HIDDEN = "training.optimizer.lr", "model.dropout", "model.hidden"
PBT = (
    *("model=mlp", "data=mnist", "hydra/sweeper/pruner=pbt", "hydra.sweeper.study_name=digits"),
    *(f"{LR}=tag(log,interval(1e-4,1))", f"{DROPOUT}=interval(0,0.5)", f"{HIDDEN}=8,16"),
    *("training.epochs=2", "hydra.sweeper.n_trials=3", "hydra.sweeper.n_jobs=1", "seed=1", "-m"),
)


def lineages(study: Path) -> list[list[dict]]:
    return [json.loads(file.read_text()) for file in sorted(study.glob("trials/*/lineage.json"))]


def rates(trial: Path) -> dict[int, float]:
    records = map(json.loads, (trial / "records.jsonl").read_text().splitlines())
    return {r["step"]: r["metrics"]["lr"] for r in records if "lr" in r["metrics"]}


def test_a_population_learns_with_rates_that_change(project) -> None:
    project.run(*PBT, "tracking=[mlflow,wandb,tensorboard]")
    study = project.path / "outputs" / "digits"
    assert set(project.table("digits")["state"]) == {"completed"}
    copies = 0
    for trial, lineage in zip(project.trials("digits"), lineages(study), strict=True):
        found = rates(trial)
        for entry in lineage:
            copies += entry["donor"] is not None
            assert HIDDEN not in entry["changed"], "its weights have another shape"
            if entry["step"] + 1 in found:
                expected = pytest.approx(entry["params"][LR], rel=1e-6)
                assert found[entry["step"] + 1] == expected
        config = (trial / ".hydra" / "overrides.yaml").read_text()
        assert f"{HIDDEN}={lineage[-1]['params'][HIDDEN]}" in config
    assert copies > 0
    assert_tracked(project, study)


def assert_tracked(project, study: Path) -> None:
    number, lineage = max(enumerate(lineages(study)), key=lambda one: len(one[1]))
    words = " ".join(f"{one['donor']:04d}@{one['step']}" for one in lineage[1:])
    assert project.table("digits")["lineage"][number] == words
    with closing(sqlite3.connect(project.path / "outputs" / "mlflow.db")) as database:
        query = "SELECT value FROM tags WHERE key = 'dlsweep.lineage'"
        assert (words,) in database.execute(query).fetchall()
        query = f"SELECT DISTINCT value FROM metrics WHERE key = 'hparams/{LR}'"
        values = {value for (value,) in database.execute(query)}
    assert values >= {entry["params"][LR] for entry in lineage}
    summaries = [
        record["summary"]["update"].get("lineage")
        for folder in study.glob("wandb/offline-run-*")
        for record in read_offline(folder)
        if record["type"] == "summary"
    ]
    assert words in map(str, summaries)
    events = EventAccumulator(str(study / "tensorboard" / f"{number:04d}"))
    events.Reload()
    assert [one.step for one in events.Scalars(f"hparams/{LR}")] == [one["step"] for one in lineage]
    assert "agree" in project.run("verify", "outputs/digits")


def test_a_key_that_changes_the_weights_shapes_is_refused(project) -> None:
    said = project.run(*PBT, f"hydra.sweeper.pruner.perturb=[{HIDDEN}]", "tracking=none", code=1)
    assert f"perturb: Received {HIDDEN}, and the weights layers." in said
    assert "have the shape [8, 784] for one of its values and [16, 784] for another" in said
    assert not list(project.path.glob("outputs/digits/trials/*"))
