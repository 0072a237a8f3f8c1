"""The best trials are trained again: one by +best, several over seeds by the verb best."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

pytestmark = pytest.mark.slow

_DATA = """
import numpy as np
from dlsweep.data import Data, Split

def points():
    inputs = np.random.default_rng(0).normal(size=(300, 4)).astype("float32")
    targets = inputs.sum(1, keepdims=True).astype("float32")
    def part(first, last):
        return Split(inputs[first:last], targets[first:last])
    return Data(part(0, 150), part(150, 220), part(220, 300))
"""
_SWEEP = (
    "data=none",
    "+data._target_=points.points",
    "model.input_shape=[4]",
    "model.classes=1",
    "training.loss=mse",
    "training.monitor=val/loss",
    "training.mode=min",
    "training.batch_size=32",
    "training.epochs=2",
    "tracking=none",
    "hydra.sweeper.study_name=regression",
)


def overrides(trial: Path) -> list[str]:
    return yaml.safe_load((trial / ".hydra" / "overrides.yaml").read_text())


def config(trial: Path) -> dict:
    return yaml.safe_load((trial / ".hydra" / "config.yaml").read_text())


def test_a_study_is_trained_again_by_its_name(warm_project) -> None:
    """Groups, values, the experiment and keys of the command line are those of the best trial."""
    sweep = ["+experiment=mnist", "training.epochs=1", "training/optimizer=sgd", "tracking=none"]
    warm_project.run(*sweep, "model.hidden=16,[24,8]", "training.optimizer.lr=0.3", "-m")
    best = yaml.safe_load((warm_project.path / "outputs/mnist/best.yaml").read_text())
    warm_project.run("+best=outputs/mnist", "model.dropout=0.25", "hydra.run.dir=again")
    expected = config(Path(best["folder"]))
    found = config(warm_project.path / "again")
    expected["model"]["dropout"] = 0.25
    assert found == expected
    assert found["training"]["optimizer"]["lr"] == 0.3


def test_a_trial_can_be_swept_like_any_group(warm_project) -> None:
    warm_project.run("+experiment=quadratic", "tracking=none", "training.x=1,2,3", "-m")
    trials = "outputs/quadratic/trials/0000,outputs/quadratic/trials/0002"
    output = warm_project.run(
        f"+best={trials}",
        "hydra.sweeper.study_name=two",
        "tracking=none",
        "hydra.sweeper.metric=val/loss",
        "hydra.sweeper.direction=minimize",
        "-m",
    )
    assert "2 trials (2 completed)" in output
    assert [config(one)["training"]["x"] for one in warm_project.trials("two")] == [1, 3]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("+best=outputs/nothing", "The group 'best' has no choice 'outputs/nothing'"),
        ("+best=outputs/open", "outputs/open has no best trial: none has completed"),
    ],
)
def test_what_cannot_be_trained_again_is_refused(warm_project, given: str, message: str) -> None:
    folder = warm_project.path / "outputs" / "open"
    folder.mkdir(parents=True)
    (folder / "study.json").write_text("{}")
    output = warm_project.run(given, code=1)
    assert message in output
    assert "Traceback" not in output


@pytest.mark.parametrize(
    "override",
    [
        "model._target_=os.system",
        "framework.setup=os.abort",
        "+model.x=${oc.env:HOME,$(touch hacked)}",
        "+training.callbacks=[{_target_: os.system, command: touch hacked}]",
    ],
)
def test_nothing_that_a_strangers_trial_names_is_called(warm_project, override: str) -> None:
    warm_project.run("+experiment=quadratic", "tracking=none", "hydra.run.dir=received/run")
    info = warm_project.path / "received" / "run" / "run.json"
    record = json.loads(info.read_text())
    info.write_text(json.dumps({**record, "overrides": [override]}))
    output = warm_project.run("+best=received/run", code=1)
    assert "received/run" in output
    assert "Traceback" not in output
    assert not (warm_project.path / "hacked").exists()


def test_the_best_trials_are_compared_over_new_seeds(warm_project) -> None:
    warm_project.module("points", _DATA)
    warm_project.run(*_SWEEP, "training.optimizer.lr=0.05,0.01,0.00001", "-m")
    output = warm_project.run("best", "outputs/regression", "--top", "2", "--seeds", "3")
    trials = warm_project.trials("regression-best-2x3")
    assert len(trials) == 6
    assert {config(one)["seed"] for one in trials} == {1, 2, 3}, "the sweep itself had seed 0"
    results = [json.loads((one / "result.json").read_text())["metrics"] for one in trials]
    assert not any(name.startswith("test/") for one in results for name in one)
    chosen = json.loads((warm_project.path / "outputs/regression-best-2x3/deploy.json").read_text())
    means = {
        name: np.mean(
            [
                one["val/loss"]
                for one, trial in zip(results, trials, strict=True)
                if f"+best={name}" in overrides(trial)
            ]
        )
        for name in {
            one.partition("=")[2]
            for trial in trials
            for one in overrides(trial)
            if one.startswith("+best=")
        }
    }
    assert chosen["candidate"] == min(means, key=means.__getitem__)
    assert chosen["mean"] == pytest.approx(min(means.values()))
    assert chosen["difference"]["seeds"] == 3
    assert chosen["test"]["examples"] == 80
    mine = trials[chosen["number"]]
    assert f"+best={chosen['candidate']}" in overrides(mine)
    assert "On 80 test examples, read once:  mean_absolute_error" in output
    again = warm_project.run("best", "outputs/regression", "--top", "2", "--seeds", "3")
    assert "To deploy:" in again
    assert len(warm_project.trials("regression-best-2x3")) == 6, (
        "the same command trains nothing again"
    )
    warm_project.run("export", "outputs/regression-best-2x3", "--to", "torch")
    exported = warm_project.path / "exports/regression-best-2x3/torch/1/export.json"
    assert json.loads(exported.read_text())["run"]["trial"] == chosen["number"]
    warm_project.run("+best=outputs/regression-best-2x3", "hydra.run.dir=deployed", "seed=9")
    assert (
        config(warm_project.path / "deployed")["training"]["optimizer"]["lr"]
        == (config(mine)["training"]["optimizer"]["lr"])
    )


def test_a_function_of_ones_own_is_compared_too(warm_project) -> None:
    sweep = ("+experiment=quadratic", "tracking=none", "training.x=2,0", "training.y=-1")
    warm_project.run(*sweep, "-m")
    output = warm_project.run("best", "outputs/quadratic", "--seeds", "2", "training.steps=2")
    assert "0000 is better than 0001 by 4 (95% interval 4 to 4, 2 seeds, p = 0)." in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["outputs/nothing"], "is not a study folder"),
        (["outputs/quadratic", "--top", "0"], "--top: Received 0. Expected 1 or more."),
        (["outputs/quadratic", "--seeds", "-1"], "--seeds: Received -1. Expected 1 or more."),
    ],
)
def test_the_verb_refuses_with_a_sentence(warm_project, arguments: list[str], message: str) -> None:
    output = warm_project.run("best", *arguments, code=1)
    assert message in output
    assert "Traceback" not in output
