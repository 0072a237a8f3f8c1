"""Trials share GPUs where their predicted memory fits.

The GPUs are a library in the place of NVIDIA's: real trials in real processes have as much of their
memory as they say.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[1] / "machine"))
import fake_gpus

pytestmark = pytest.mark.slow
SWEEP = (
    *("+experiment=quadratic", "training._target_=holds.train", "tracking=csv"),
    *("training.seconds=0.5", "system_metrics=0.1", "training.x=interval(-5,5)"),
    *("training.y=0", "hydra/sweeper/sampler=random", "hydra/sweeper/pruner=none", "-m"),
)
SIZES = "+training.gigabytes=tag(log,interval(2.0,60.0))"
SAID = "Trials share GPUs from now on"


@dataclass
class Machine:
    """A project on a machine with eight cores and two GPUs."""

    project: Any
    env: dict[str, str]

    def sweep(self, *arguments: str, gpus: str = "0,1") -> str:
        self.project.module("holds", (fake_gpus.HERE / "holds.py").read_text())
        return self.project.run(*SWEEP, *arguments, **self.env, CUDA_VISIBLE_DEVICES=gpus)

    def trials(self, study: str = "quadratic") -> list[dict[str, Any]]:
        files = [trial / "user_attrs.json" for trial in self.project.trials(study)]
        return [json.loads(file.read_text()) for file in files]


@pytest.fixture
def machine(project, tmp_path: Path) -> Machine:
    return Machine(project, fake_gpus.build(tmp_path / "machine"))


def together(trials: list[dict[str, Any]], moment: float, gpu: str) -> list[dict[str, Any]]:
    return [one for one in trials if one["gpu"] == gpu and one["began"] <= moment < one["ended"]]


def crowds(trials: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """The trials on a GPU when each trial begins there, itself included."""
    return [together(trials, one["began"], one["gpu"]) for one in trials]


def test_small_trials_share_a_gpu_as_soon_as_their_memory_is_known(machine) -> None:
    output = machine.sweep(SIZES, "hydra.sweeper.n_trials=32")
    assert output.count(SAID) == 1
    trials = machine.trials()
    assert len(trials) == 32
    assert {one["gpu"] for one in trials} == {"0", "1"}
    assert {one["threads"] for one in trials} == {4}, "as with a GPU of its own"
    found = crowds(trials)
    assert 3 <= max(map(len, found)) <= 4
    assert max(sum(one["bytes"] for one in crowd) for crowd in found) < 0.95 * 80e9
    early = trials[: 1 + min(n for n, crowd in enumerate(found) if len(crowd) > 1)]
    ended = sorted(one["ended"] for one in trials)
    assert sum(end < early[-1]["began"] for end in ended) >= 6, "it had learned from so many"
    assert (
        json.loads((machine.project.path / "outputs/quadratic/study.json").read_text())["slots"]
        == 8
    )
    peaks = [trial / "result.json" for trial in machine.project.trials("quadratic")]
    own = [json.loads(file.read_text())["peak_memory"]["gpu"] for file in peaks]
    assert own == pytest.approx([one["bytes"] for one in trials]), "without its neighbours"

    before = len(trials)
    output = machine.sweep(SIZES, "hydra.sweeper.n_trials=38")
    first = output.index(SAID)
    assert first < output.index("completed"), "a resumed sweep knows at once"
    late = machine.trials()[before:]
    assert max(map(len, crowds(late))) > 1


def test_one_gpu_a_trial_never_shares_and_gives_the_same_results(machine) -> None:
    shared = machine.sweep(SIZES, "hydra.sweeper.n_trials=12", "seed=1")
    alone = (SIZES, "hydra.sweeper.n_trials=12", "seed=1", "launcher.gpus_per_trial=1")
    output = machine.sweep(*alone, "hydra.sweeper.study_name=alone")
    assert SAID not in output
    assert SAID in shared
    assert max(map(len, crowds(machine.trials("alone")))) == 1
    columns = ["training.x", "training.gigabytes", "val/loss"]
    one, other = (machine.project.table(study)[columns] for study in ("quadratic", "alone"))
    assert one.equals(other)


@pytest.mark.parametrize("option", ["predict_memory=false", "trial_timeout=100"])
def test_without_predictions_or_with_limits_the_default_never_shares(machine, option) -> None:
    output = machine.sweep(SIZES, "hydra.sweeper.n_trials=10", f"hydra.sweeper.{option}")
    assert SAID not in output
    assert max(map(len, crowds(machine.trials()))) == 1


def test_a_fraction_shares_by_count_until_memory_is_known(machine) -> None:
    sizes = "+training.gigabytes=tag(log,interval(36.0,44.0))"
    half = ("launcher.gpus_per_trial=0.5", "hydra.sweeper.n_trials=14")
    machine.sweep(sizes, *half, gpus="0")
    trials = machine.trials()
    found = crowds(trials)
    assert len(found[1]) == 2, "before anything is known"
    assert max(map(len, found[-4:])) == 1, "two of them have no room, as is known now"


def test_what_runs_out_of_memory_beside_others_is_launched_again_alone(machine) -> None:
    size = "+training.gigabytes=10"
    given = ("training._target_=holds.train_alone", "hydra.sweeper.n_trials=9")
    output = machine.sweep(size, *given, gpus="0")
    assert set(machine.project.table("quadratic")["state"]) == {"completed"}
    assert "ran out of memory beside others, so it gets a GPU of its own" in output
    assert max(map(len, crowds(machine.trials()))) == 1
    attempts = list(machine.project.path.glob("outputs/quadratic/trials/*/attempts.jsonl"))
    assert attempts
    assert {json.loads(file.read_text())["status"] for file in attempts} == {"out_of_memory"}
