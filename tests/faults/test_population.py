"""A population: every weight has the history that its lineage tells, also after kills."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import optuna
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
STEPS, TRIALS = 8, 6
SHORT = (f"training.steps={STEPS}", f"hydra.sweeper.pruner.max_resource={STEPS}")
PBT = ("tracking=none", "hydra/sweeper/pruner=pbt", *SHORT)
CLIMB = (
    *(*PBT, "training._target_=climb.train", "training.seconds=0.05", "seed=1"),
    *(f"hydra.sweeper.n_trials={TRIALS}", "hydra.sweeper.pruner.perturbation_interval=2", "-m"),
)
TWO_SLOTS = (*CLIMB, "hydra.sweeper.n_jobs=2", "hydra.sweeper.study_name=waits")
Lineages = list[list[dict]]


def lineages(sweeps, name: str) -> Lineages:
    return [json.loads((one / "lineage.json").read_text()) for one in sweeps.trials(name)]


def basis(lineage: list[dict], step: int) -> dict:
    """What a trial had gone on from when it had done a step."""
    return [entry for entry in lineage if entry["step"] < step][-1]


def history(all_of_them: Lineages, number: int, step: int) -> list[list]:
    """Who should have trained each step of a trial's weights, and with which x."""
    entry = basis(all_of_them[number], step)
    own = [[number, entry["params"]["training.x"]]] * (step - entry["step"])
    if entry["donor"] is None:
        return own
    return history(all_of_them, entry["donor"], entry["step"]) + own


def assert_lineage(sweeps, name: str) -> int:
    """Checks a population that has ended; returns how often a checkpoint was copied."""
    found, trials = lineages(sweeps, name), sweeps.trials(name)
    assert set(sweeps.table(name)["state"]) == {"completed"}
    copies = 0
    for number, (lineage, trial) in enumerate(zip(found, trials, strict=True)):
        last = max(trial.glob("checkpoints/step-*"))
        state = json.loads((last / "state.json").read_text())
        assert state["path"] == history(found, number, STEPS), trial
        assert json.loads((trial / "run.json").read_text())["params"] == lineage[-1]["params"]
        assert lineage[0]["donor"] is None
        for before, entry in itertools.pairwise(lineage):
            assert before["step"] < entry["at"] <= entry["step"] < STEPS, "no step goes back"
            donor = basis(found[entry["donor"]], entry["step"])["params"]
            assert {key: old for key, (old, _) in entry["changed"].items()}.items() <= donor.items()
            new = {key: value for key, (_, value) in entry["changed"].items()}
            assert entry["params"] == {**donor, **new}
            copies += 1
        assert_recorded_once(trial)
    database = f"sqlite:///{sweeps.study(name) / 'study.db'}"
    stored = optuna.load_study(study_name=name, storage=database).trials
    assert [one.user_attrs.get("lineage", found[one.number][:1]) for one in stored] == found
    return copies


def assert_recorded_once(trial: Path) -> None:
    """Each metric is logged once at a step, in order."""
    records = [json.loads(line) for line in (trial / "records.jsonl").read_text().splitlines()]
    for name in ("val/loss", "hparams/training.x"):
        steps = [record["step"] for record in records if name in record["metrics"]]
        assert steps == sorted(set(steps)), (trial, name)


@pytest.fixture(scope="module")
def ended(undisturbed):
    """A population that has two slots, so that trials take turns, and nothing happens to it."""
    undisturbed.run(*TWO_SLOTS)
    return undisturbed


def test_the_worst_go_on_from_the_checkpoints_of_the_best(ended) -> None:
    assert assert_lineage(ended, "waits") > 0
    table = ended.table("waits")
    for lineage, text in zip(lineages(ended, "waits"), table["lineage"], strict=True):
        donors = [f"{entry['donor']:04d}@{entry['step']}" for entry in lineage[1:]]
        assert ("" if text != text else text).split() == donors
    began = [lineage[0]["params"]["training.x"] for lineage in lineages(ended, "waits")]
    alone = [10 * (0.9 + (x - 2) ** 2 / 500) ** STEPS for x in began]
    assert table["val/loss"].mean() < sum(alone) / len(alone)


def test_the_hyperparameters_over_time_are_metrics(ended) -> None:
    for lineage, trial in zip(lineages(ended, "waits"), ended.trials("waits"), strict=True):
        lines = (trial / "records.jsonl").read_text().splitlines()
        found = [(r["step"], r["metrics"]) for r in map(json.loads, lines)]
        values = [(step, m["hparams/training.x"]) for step, m in found if "hparams/training.x" in m]
        assert values == [(entry["step"], entry["params"]["training.x"]) for entry in lineage]


def test_with_a_slot_for_each_only_the_worst_pause(sweeps) -> None:
    sweeps.run(*CLIMB, "hydra.sweeper.n_trials=2", "hydra.sweeper.study_name=free")
    assert assert_lineage(sweeps, "free") > 0
    files = [trial / "attempts.jsonl" for trial in sweeps.trials("free")]
    pauses = [len(one.read_text().splitlines()) if one.exists() else 0 for one in files]
    copies = [len(lineage) - 1 for lineage in lineages(sweeps, "free")]
    assert all(paused >= copied for paused, copied in zip(pauses, copies, strict=True))
    assert min(pauses) < 3, "there are three ends of intervals"


def test_kills_leave_a_lineage_that_is_true(sweeps, times) -> None:
    whom = "kills of the driver and all trials"
    slowly = [text.replace("seconds=0.05", "seconds=0.15") for text in TWO_SLOTS]
    assert sweeps.kill_at_random(whom, times(whom) + 3, *slowly)
    assert assert_lineage(sweeps, "waits") > 0


def test_a_training_that_never_saves_ends_with_a_sentence(sweeps) -> None:
    said = sweeps.run(*PBT, "hydra.sweeper.n_trials=4", "hydra.sweeper.n_jobs=2", "-m", code=1)
    assert "has paused and saved no checkpoint" in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (("hydra.sweeper.pruner.max_resource=auto",), "Received auto, which is training.epochs"),
        (("training.x=1,2",), "a sweep that runs every point once"),
        (
            ("hydra.sweeper.direction=[minimize,minimize]", "hydra.sweeper.metric=[a,b]"),
            "several objectives cannot prune",
        ),
    ],
)
def test_what_is_no_population_is_refused_before_anything_starts(sweeps, overrides, says) -> None:
    said = sweeps.run(*PBT, *overrides, "-m", code=1)
    assert says in said
    assert "Traceback" not in said
    assert not list(sweeps.path.glob("outputs/*/trials/*"))
