"""Small trained runs of either framework, on data of every kind, to export."""

from __future__ import annotations

import importlib
import os
import shutil
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from dlsweep.cli.search_path import conf_folders
from dlsweep.errors import ExportError
from dlsweep.export.export import Exported, Options, export
from dlsweep.folders.rundir import RunDir
from dlsweep.run.run import Run
from dlsweep.trial.signature import build

_PROJECT = '''
import numpy as np
from dlsweep.data import Data, Split, table


def images(examples=120, shift=0):
    """Pixels whose bright half tells the class; each channel has its own mean."""
    random = np.random.default_rng(0)
    targets = np.arange(examples) % 3
    pixels = random.integers(0, 120, (examples, 2, 8, 8))
    pixels[np.arange(examples), :, targets, :] += 120
    inputs = pixels.astype(np.uint8)
    mean, std = np.array([0.25, 0.3])[:, None, None] + shift, np.array([0.2, 0.4])[:, None, None]
    parts = Split(inputs[:90], targets[:90]), Split(inputs[90:], targets[90:])
    return Data(*parts, mean=mean, std=std, record={"class_names": ["cat", "dog", "größe"]})


def two_inputs():
    random = np.random.default_rng(0)
    left, right = random.normal(3, 2, (90, 4)), random.normal(-1, 5, (90, 6))
    targets = (left.sum(1) > 12).astype(int)
    def part(rows):
        return Split({"left": left[rows], "right": right[rows]}, targets[rows])
    return Data(part(slice(60)), part(slice(60, 90)))


def values():
    inputs = np.random.default_rng(0).normal(100, 30, (90, 3))
    targets = (inputs @ [[1.0], [2.0], [3.0]]).astype("float32")
    parts = Split(inputs[:60], targets[:60]), Split(inputs[60:], targets[60:])
    return Data(*parts, mean=100, std=30)


def standardised():
    """Values of about 60,000 that a model only learns if they are standardized."""
    parts = [
        Split(one.inputs, 100 * one.targets) for one in (values().train, values().validation)
    ]
    mean, std = parts[0].targets.mean(0), parts[0].targets.std(0)
    return Data(*parts, mean=100, std=30, target_mean=mean, target_std=std)


def torch_dataset():
    import torch
    data = values()
    parts = {"train": data.train, "validation": data.validation}
    return {
        name: torch.utils.data.TensorDataset(
            torch.from_numpy(part.inputs.astype("float32")), torch.from_numpy(part.targets)
        )
        for name, part in parts.items()
    }


def decides(input_shape, classes):
    """A model that no exporter can trace: it branches on the values of its inputs."""
    import torch

    class Branching(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = torch.nn.Linear(input_shape[0], classes)

        def forward(self, inputs):
            return self.linear(inputs if inputs.sum() > 0 else -inputs)

    return Branching()


def complex_numbers(input_shape, classes):
    """A Keras model with an operation that LiteRT lacks."""
    import keras
    import tensorflow as tf

    class Determinant(keras.layers.Layer):
        def call(self, inputs):
            squares = keras.ops.cast(inputs[:, 0], "float32")
            return tf.linalg.det(squares)[:, None]

    return keras.Sequential(
        [keras.Input(input_shape), Determinant(), keras.layers.Dense(classes)]
    )


def subclassed(input_shape, classes):
    """A Keras model without get_config, in half precision if that is the policy."""
    import keras

    class Own(keras.Model):
        def __init__(self, width):
            super().__init__()
            self.flat, self.out = keras.layers.Flatten(), keras.layers.Dense(classes)
            self.width = width

        def call(self, inputs):
            return self.out(self.flat(inputs))

    return Own(object())
'''
_TABLE = "colour (r/g),size,answer\n" + "".join(
    f"{colour},{size},{'yes' if colour == 'red' and size > 3 else 'no'}\n"
    for size in range(8)
    for colour in ("red", "green=ish", "blå")
)
_MODELS = {
    "images": {"_target_": "{0}.CNN", "channels": [4, 4], "hidden": 8},
    "two_inputs": {"_target_": "{0}.TwoBranches", "branch": 4, "hidden": 8},
    "table": {"_target_": "{0}.MLP", "hidden": 8},
    "values": {"_target_": "{0}.MLP", "hidden": 8},
}
_DATA = {
    "table": {
        "_target_": "dlsweep.data.table",
        "path": "table.csv",
        "target": "answer",
        "columns": None,
    }
}
_OPTIMIZERS = {"torch": "torch.optim", "keras": "dlsweep.keras.optimizers"}
_TRAINERS = {"torch": "dlsweep.torch.TorchTrainer", "keras": "dlsweep.keras.KerasTrainer"}


class Lab:
    """Makes and exports runs."""

    def __init__(self, make_run: Callable[..., RunDir], project: Path, shelf: Path) -> None:
        self.project = project
        self._make_run = make_run
        self._shelf = shelf
        self._made = 0

    def run(
        self,
        framework: str,
        data: str,
        model: dict[str, Any] | None = None,
        backend: str = "tensorflow",
        **training: Any,
    ) -> RunDir:
        """Makes a run; its checkpoints come from :meth:`trained`."""
        model = model or {
            key: value.format(f"dlsweep.{framework}") if key == "_target_" else value
            for key, value in _MODELS.get(data, _MODELS["values"]).items()
        }
        config = {
            "model": {"input_shape": None, "classes": None, **model},
            "data": _DATA.get(data, {"_target_": f"project.{data}"}),
            "training": {
                "_target_": _TRAINERS[framework],
                "optimizer": {
                    "_target_": f"{_OPTIMIZERS[framework]}.Adam",
                    "_partial_": True,
                    "lr": 0.01,
                },
                "epochs": 3,
                "batch_size": 8,
                **training,
            },
        }
        if framework == "keras":
            config["framework"] = {"env": {"KERAS_BACKEND": backend}}
        self._made += 1
        return self._make_run(config, name=f"{self._made:04d}")

    def trained(self, framework: str, data: str, **options: Any) -> RunDir:
        """Makes a run and trains it in this process."""
        folder = self.run(framework, data, **options)
        importlib.import_module(f"dlsweep.{framework}").setup(seed=0)
        with Run.open(folder.path) as run:
            build("training", run.config.training).fit(run)
        return folder

    def exported(self) -> tuple[RunDir, Path]:
        """A run of PyTorch and its export to ONNX: made once, and copied for each test."""
        parts = ("outputs", "exports")
        if not (self._shelf / "exports").exists():
            self.export(self.trained("torch", "images").path, "onnx")
            for part in parts:
                shutil.copytree(self.project / part, self._shelf / part)
        for part in parts:
            shutil.copytree(self._shelf / part, self.project / part, dirs_exist_ok=True)
        (folder,) = self.project.glob("exports/study/onnx/[0-9]*")
        (run,) = self.project.glob("outputs/study/trials/*")
        return RunDir(run), folder

    def export(self, folder: Path, *formats: str, **options: Any) -> dict[str, Exported]:
        """Exports to formats; raises the error of the first that is refused."""
        found = {}
        for form, one in zip(formats, self.attempts(folder, formats, **options), strict=True):
            if isinstance(one, ExportError):
                raise one
            found[form] = one
        return found

    def attempts(
        self, folder: Path, formats: Sequence[str], **options: Any
    ) -> list[Exported | ExportError]:
        """Exports to formats; returns what comes of each."""
        return list(export(RunDir(folder), Options(formats, **options), conf_folders()))

    def names_of_this_machine(self, folder: Path) -> list[str]:
        """Finds the files of an export that name a folder or the host of this machine."""
        host = socket.gethostname()
        words = [str(self.project), os.path.expanduser("~/"), "site-packages"]
        words += [host] * (len(host) > 4)
        return [
            f"{file}: {word}"
            for file in folder.rglob("*")
            if file.is_file()
            for word in words
            if word.encode() in file.read_bytes()
        ]


@pytest.fixture(scope="session")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where an export stands that several tests use."""
    return tmp_path_factory.mktemp("shelf")


@pytest.fixture
def lab(
    make_run: Callable[..., RunDir], tmp_path: Path, shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> Lab:
    (tmp_path / "project.py").write_text(_PROJECT)
    (tmp_path / "table.csv").write_text(_TABLE)
    monkeypatch.chdir(tmp_path)  # whose modules are trusted
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Lab(make_run, tmp_path, shelf)
