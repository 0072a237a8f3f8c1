"""A sweep of Keras trials keeps what a sweep promises."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.slow
KERAS = ("framework=keras", "tracking=none", "training.batch_size=1000")


def arrays(run: Path) -> list[np.ndarray]:
    with np.load(max(run.glob("checkpoints/step-*")) / "variables.npz") as values:
        return [values[name] for name in values.files]


def test_bad_trials_are_pruned_and_a_killed_driver_goes_on(project, read_steps) -> None:
    arguments = (
        *KERAS,
        "training.epochs=3",
        "training.optimizer.lr=tag(log,interval(1e-8,1e-1))",
        "hydra.sweeper.n_trials=4",
        "hydra.sweeper.n_jobs=1",
        "hydra/sweeper/pruner=threshold",
        "hydra.sweeper.pruner.lower=0.6",
        "hydra.sweeper.pruner.n_warmup_steps=1",
        "-m",
    )
    driver = project.start(*arguments)
    first = project.path / "outputs" / "default" / "trials" / "0000" / "records.jsonl"
    deadline = time.monotonic() + 120
    while not first.exists() or not first.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(driver.pid, signal.SIGKILL)
    driver.communicate()
    output = project.run(*arguments)
    assert "Warm start is off" not in output
    assert "oneDNN" not in output
    assert "0000 goes on" in output
    table = project.table("default")
    assert list(table["number"]) == [0, 1, 2, 3]
    assert "pruned" in set(table["state"]) <= {"pruned", "completed"}
    for trial, state in zip(project.trials("default"), table["state"], strict=True):
        steps = read_steps(trial)
        assert steps == list(range(1, len(steps) + 1)), "nothing twice, and no gap"
        assert (len(steps) < 3) == (state == "pruned")


_LOADED = """
import sys
from dlsweep.keras.trainer import KerasTrainer

class Told(KerasTrainer):
    def fit(self, run):
        metrics = super().fit(run)
        print(", ".join(f"{name} {name in sys.modules}" for name in ("torch", "tensorflow")))
        return metrics
"""


def test_keras_trains_on_pytorch_too(project) -> None:
    project.module("loaded", _LOADED)
    options = ("framework.backend=torch", "training.epochs=1", "training._target_=loaded.Told")
    output = project.run(*KERAS, *options, "hydra.run.dir=run")
    assert "Warm start is off" not in output
    assert "completed" in output
    log = (project.path / "run" / "log.txt").read_text()
    assert "torch True, tensorflow False" in log, "both in one process crash some models"


def test_two_deterministic_runs_are_the_same_to_the_last_bit(project) -> None:
    for name in ("one", "two"):
        folder = f"hydra.run.dir=outputs/{name}"
        project.run(*KERAS, "training.epochs=2", "seed=42", "deterministic=true", folder)
    runs = [project.path / "outputs" / name for name in ("one", "two")]
    for one, other in zip(*map(arrays, runs), strict=True):
        np.testing.assert_array_equal(one, other)
    results = [json.loads((run / "result.json").read_text())["metrics"] for run in runs]
    assert results[0] == results[1]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ("model._target_=dlsweep.torch.MLP",),
            r"model\._target_: 'dlsweep\.torch\.MLP' makes a .*Expected a keras.*Model",
        ),
        (("training.precision=fp16",), r"training.precision: Received 'fp16' on a CPU"),
        (("model.input_shape=[3,5,5]",), r"model.input_shape: Received \[3, 5, 5\]. Expected \[1"),
        (("model.classes=3",), r"labels up to 9. The model has 3 classes"),
        (("training.batch_size=9000",), r"training.batch_size: Received 9000"),
        (("devices.tf_memory=lots",), r"devices.tf_memory: Received 'lots'. Expected 'growth'"),
        (
            ("training.callbacks=[{_target_: builtins.dict}]",),
            r"callbacks\[0\]: Received .*Dict.*Expected a subclass of .* keras.*Callback",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_a_sentence(warm_project, arguments, says: str) -> None:
    output = warm_project.run(*KERAS, *arguments, code=1)
    assert re.search(says, output), output
    assert "Traceback" not in output
