"""Trials that pause at rungs and are promoted: nothing is trained twice, also not after kills."""

from __future__ import annotations

import json
from pathlib import Path

import optuna
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
RUNGS = ("training.steps=9", "hydra.sweeper.pruner.max_resource=9")
WALK = ("tracking=none", "training._target_=walk.train", "training.seconds=0.03", "-m")
ONE_SLOT = (*WALK, *RUNGS, "hydra.sweeper.n_trials=12", "hydra.sweeper.n_jobs=1")
COLUMNS = ["number", "state", "val/loss", "training.x", "training.y"]


def trained(trial: Path) -> list[int]:
    """The steps that a training did, in order."""
    return [int(line) for line in (trial / "work.txt").read_text().split()]


@pytest.fixture(scope="module", params=["promote", "pasha"])
def ended(request: pytest.FixtureRequest, undisturbed):
    """A sweep that nothing happened to, by the name of its pruner."""
    arguments = (*ONE_SLOT, f"hydra/sweeper/pruner={request.param}")
    undisturbed.run(*arguments, f"hydra.sweeper.study_name={request.param}")
    return request.param, arguments, undisturbed


def test_trials_go_on_from_where_they_paused(ended) -> None:
    name, _, sweeps = ended
    sweeps.assert_exactly_once(name, 12)
    steps = [trained(trial) for trial in sweeps.trials(name)]
    assert all(done == list(range(1, len(done) + 1)) for done in steps), "no step is done twice"
    assert {len(done) for done in steps} == {1, 3, 9}
    table = sweeps.table(name)
    assert list(table["state"] == "completed") == [len(done) == 9 for done in steps]
    total = sum(map(len, steps))
    assert total < 12 * 9 / 2
    best = table.loc[table["val/loss"].idxmin(), "number"]
    assert f"number: {best}" in (sweeps.study(name) / "best.yaml").read_text()


def test_optunas_own_record_stays_readable(ended) -> None:
    name, _, sweeps = ended
    database = f"sqlite:///{sweeps.study(name) / 'study.db'}"
    study = optuna.load_study(study_name=name, storage=database)
    curves = [trial.intermediate_values for trial in study.trials]
    assert [list(curve) for curve in curves] == [trained(one) for one in sweeps.trials(name)]
    assert all(trial.state.is_finished() for trial in study.trials)


def test_kills_change_neither_rungs_nor_trials(ended, sweeps, times) -> None:
    name, arguments, undisturbed = ended
    whom = "kills of the driver and all trials"
    slowly = [text.replace("seconds=0.03", "seconds=0.15") for text in arguments]
    study = f"hydra.sweeper.study_name={name}"
    assert sweeps.kill_at_random(whom, times(whom) + 2, *slowly, study)
    sweeps.assert_exactly_once(name, 12)
    assert sweeps.table(name)[COLUMNS].equals(undisturbed.table(name)[COLUMNS])


def test_a_training_without_checkpoints_may_start_over_only_if_asked(sweeps) -> None:
    arguments = ("tracking=none", *RUNGS, "hydra/sweeper/pruner=promote", "-m")
    said = sweeps.run(*arguments, "hydra.sweeper.n_trials=6", code=1)
    assert "has paused and saved no checkpoint" in said
    assert "hydra.sweeper.pruner.start_over=true" in said
    assert "Traceback" not in said
    sweeps.run(*arguments, "hydra.sweeper.n_trials=6", "hydra.sweeper.pruner.start_over=true")
    table = sweeps.table("quadratic")
    assert set(table["state"]) == {"completed", "pruned"}
    for trial in sweeps.trials("quadratic"):
        records = [json.loads(line) for line in (trial / "records.jsonl").read_text().splitlines()]
        steps = [record["step"] for record in records]
        assert steps == list(range(1, len(steps) + 1)), "a step that is passed again is logged once"


def test_a_stopped_sweep_shows_who_waits(sweeps) -> None:
    arguments = (*WALK, *RUNGS, "hydra/sweeper/pruner=promote", "hydra.sweeper.n_jobs=1")
    sweeps.run(*arguments, "hydra.sweeper.n_trials=100", "hydra.sweeper.timeout=4")
    table = sweeps.table("quadratic")
    waiting = table[table["state"] == "paused"]
    assert len(waiting) > 0
    trials = sweeps.trials("quadratic")
    results = [json.loads((trials[n] / "result.json").read_text()) for n in waiting["number"]]
    assert {result["status"] for result in results} == {"paused"}


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        ((), "max_resource: Received auto, which is training.epochs"),
        (("hydra.sweeper.pruner.max_resource=1",), "have 1 rungs"),
        (
            (
                "hydra.sweeper.pruner.max_resource=9",
                "hydra.sweeper.direction=[minimize,minimize]",
                "hydra.sweeper.metric=[a,b]",
            ),
            "several objectives cannot prune",
        ),
    ],
)
def test_what_cannot_be_promoted_is_refused_before_anything_starts(sweeps, overrides, says) -> None:
    said = sweeps.run("tracking=none", "hydra/sweeper/pruner=promote", *overrides, "-m", code=1)
    assert says in said
    assert "Traceback" not in said
    assert not list(sweeps.path.glob("outputs/*/trials/*"))
