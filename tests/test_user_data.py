"""A user's own data and callbacks, named in YAML and nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

pytestmark = pytest.mark.slow

_EXPERIMENT = """
# @package _global_
defaults:
  - override /data: none
  - override /tracking: none
data:
  _target_: mine.arrays
model:
  input_shape: null
  classes: null
  hidden: 4
training:
  epochs: 2
  batch_size: 8
"""

_MINE = """
import random

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from dlsweep.trainers.callbacks import Callback
from dlsweep.torch.trainer import TorchTrainer

X = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
Y = (X[:, 0] > 0).astype(int)

def arrays():
    return {"train": (X, Y), "validation": (X, Y)}

class Jittered(Dataset):
    def __len__(self):
        return len(X)

    def __getitem__(self, index):
        return torch.from_numpy(X[index]) + random.random() * torch.rand(3), Y[index]

def dataset():
    return {"train": Jittered(), "validation": DataLoader(Jittered(), 20)}

class Broken(TorchTrainer):
    def training_step(self, model, batch):
        measures = super().training_step(model, batch)
        return {**measures, "loss": measures["loss"] + (torch.sqrt(0 * measures["loss"]) * 0)}

class Scattered(TorchTrainer):
    def training_step(self, model, batch):
        torch.zeros(3).put_(torch.tensor([0]), torch.tensor([1.0]))
        return super().training_step(model, batch)

class Greeter(Callback):
    def __init__(self, word):
        self.word = word

    def on_train_begin(self):
        self.batches = 0
        self.model.register_forward_hook(self.count)

    def count(self, *_):
        self.batches += self.model.training

    def on_epoch_end(self, epoch, metrics):
        print(self.word, epoch, self.batches, flush=True)
"""

_OF_KERAS = """
import keras
import numpy as np
import tensorflow as tf

X = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)

def dataset():
    whole = tf.data.Dataset.from_tensor_slices((X, (X[:, 0] > 0).astype(int))).batch(8)
    return {"train": whole, "validation": whole}

class Greeter(keras.callbacks.Callback):
    def __init__(self, word):
        super().__init__()
        self.word = word

    def on_epoch_end(self, epoch, logs=None):
        print(self.word, *sorted(logs), flush=True)

class Root(keras.layers.Layer):
    def call(self, x):
        return keras.ops.sqrt(x)

def broken(input_shape, classes, **_):
    return keras.Sequential([keras.Input(input_shape), Root(), keras.layers.Dense(classes)])
"""


def dlsweep(folder: Path, *arguments: str, code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "dlsweep", *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == code, done.stdout
    return done.stdout


def runs(project: Path, study: str) -> list[Path]:
    return sorted((project / "outputs" / study / "runs").iterdir())


def weights(run: Path) -> str:
    manifest = json.loads((max(run.glob("checkpoints/step-*")) / "manifest.json").read_text())
    return manifest["files"]["state.pt"]["sha256"]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name, text in {"conf/experiment/x.yaml": _EXPERIMENT, "mine.py": _MINE}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_arrays_tell_the_model_its_shapes_and_a_callback_may_hook_itself_in(project: Path) -> None:
    dlsweep(project, "+experiment=x", "training.callbacks=[{_target_:mine.Greeter,word:hello}]")
    (run,) = runs(project, "x")
    assert (run / "log.txt").read_text().splitlines() == ["hello 1 5", "hello 2 10"]
    record = json.loads((run / "data.json").read_text())
    assert record["input_shape"] == [3]
    assert record["classes"] == 2


def test_a_dataset_of_tensorflow_a_callback_of_keras_and_debug_are_taken_by_keras(
    project: Path,
) -> None:
    (project / "of_keras.py").write_text(_OF_KERAS)
    shapes = ("model.input_shape=[3]", "model.classes=2")
    command = ("+experiment=x", "framework=keras", "data._target_=of_keras.dataset", *shapes)
    dlsweep(project, *command, "training.callbacks=[{_target_:of_keras.Greeter,word:hello}]")
    (run,) = runs(project, "x")
    told = "hello accuracy loss val_accuracy val_loss"
    assert (run / "log.txt").read_text().splitlines() == [told, told]
    output = dlsweep(project, *command, "debug=on", "model._target_=of_keras.broken", code=1)
    assert 'NaN in output 0 of eagerly-executing op "Sqrt"' in output


def test_debug_trains_on_one_batch_in_this_process_and_names_the_broken_operation(
    project: Path,
) -> None:
    command = ("+experiment=x", "debug=on", "training.epochs=30")
    output = dlsweep(project, *command, "training.optimizer.lr=0.1")
    assert "val/accuracy=1" in output
    output = dlsweep(project, *command, "training._target_=mine.Broken", code=1)
    assert "Function 'SqrtBackward0' returned nan values" in output


def test_a_dataset_read_by_workers_trains_twice_to_the_same_bit(project: Path) -> None:
    command = ("+experiment=x", "data._target_=mine.dataset", "deterministic=true")
    shapes = ("model.input_shape=[3]", "model.classes=2", "training.loader.workers=2")
    for name in ("one", "other"):
        dlsweep(project, *command, *shapes, f"hydra.run.dir=outputs/x/runs/{name}")
    one, other = runs(project, "x")
    assert weights(one) == weights(other)


def test_what_cannot_be_exact_is_named_as_the_run_starts(project: Path) -> None:
    command = ("+experiment=x", "training._target_=mine.Scattered")
    dlsweep(project, *command)
    output = dlsweep(project, *command, "deterministic=true", code=1)
    assert "put_ does not have a deterministic implementation" in output
    assert "train/loss" not in output, "it was at its first batch"


def test_what_cannot_work_is_refused_before_anything_starts(project: Path) -> None:
    output = dlsweep(
        project,
        "+experiment=x",
        "training.callbacks=[{_target_:mine.Greeter,wort:a}]",
        code=1,
    )
    assert (
        "training.callbacks[0].wort: mine.Greeter takes no 'wort'. Did you mean 'word'?" in output
    )
    output = dlsweep(project, "+experiment=x", "training.batch_size=41,8", "-m", code=1)
    assert "training.batch_size: Received 41, and there are 40 examples" in output
    assert "Traceback" not in output
    assert not list(project.glob("outputs/x/trials/*"))


def test_a_folder_of_images_and_a_table_are_trained_on_from_the_command_line(
    project: Path,
) -> None:
    random = np.random.default_rng(0)
    for name, place in (("cat", 0), ("dog", 1)):
        (project / "photos" / name).mkdir(parents=True)
        for number in range(10):
            pixels = random.integers(0, 50, (8, 8, 3), dtype=np.uint8)
            pixels[..., place] += 200
            Image.fromarray(pixels).save(project / "photos" / name / f"{number}.jpg")
    labels = np.arange(40) % 2
    frame = pd.DataFrame({"size": labels + random.normal(size=40) / 9, "kind": labels})
    frame.to_csv(project / "sizes.csv", index=False)
    common = ("training.batch_size=4", "training.epochs=6", "tracking=none", "launcher=inline")
    output = dlsweep(
        project, "data=image_folder", "data.folder=photos", "data.image_size=8", "model=cnn",
        "data.augmentation.horizontal_flip=0.5", *common,
    )  # fmt: skip
    assert "val/accuracy=1" in output
    output = dlsweep(project, "data=table", "data.path=sizes.csv", "data.target=kind", *common)
    assert "val/accuracy=1" in output


def test_a_regression_needs_no_more_than_its_task(project: Path) -> None:
    """Loss, monitor and mode follow; the sweep minimizes, and metrics have the column's units."""
    x = np.arange(60)
    pd.DataFrame({"x": x % 9, "price": 1000 * (x % 9) + 50_000}).to_csv(
        project / "prices.csv", index=False
    )
    output = dlsweep(
        project, "data=table", "data.path=prices.csv", "data.target=price", "data.task=regression",
        "data.standardize_target=true", "training.batch_size=8", "training.epochs=3",
        "training.optimizer.lr=1e-9,0.03", "tracking=none", "launcher=inline", "model.hidden=8",
        "hydra.sweeper.study_name=prices", "-m",
    )  # fmt: skip
    assert "val/loss" in output
    metrics = [
        json.loads((project / f"outputs/prices/trials/{number:04d}/result.json").read_text())[
            "metrics"
        ]
        for number in range(2)
    ]
    slow, fast = sorted(metrics, key=lambda one: -one["val/loss"])
    assert fast["val/mae"] < slow["val/mae"]
    assert 100 < slow["val/mae"] < 10_000
    study = json.loads((project / "outputs/prices/study.json").read_text())
    assert study["directions"] == ["minimize"]
    shown = dlsweep(project, "data=table", "data.path=p", "data.target=t", "data.task=regression",
                    "--cfg", "job", "--resolve")  # fmt: skip
    assert {"  loss: mse", "  monitor: val/loss", "  mode: min"} <= set(shown.splitlines())
