"""The PyTorch trainer on small data: what it learns, measures, refuses and saves."""

from __future__ import annotations

import functools
import inspect
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from dlsweep.data import Data, Split
from dlsweep.errors import ConfigError, DataError, Diverged
from dlsweep.folders.rundir import RunDir
from dlsweep.machine.devices import THREADS_VARIABLE
from dlsweep.run.run import Run
from dlsweep.security.instantiate import instantiate
from dlsweep.torch.models import MLP
from dlsweep.torch.trainer import TorchTrainer, setup

pytestmark = pytest.mark.slow
CONF = Path(__file__).parents[2] / "conf"
SGD = functools.partial(torch.optim.SGD, lr=0.1)
FROZEN = functools.partial(torch.optim.SGD, lr=0.0)
DIGITS = {"_target_": "dlsweep.data.mnist"}
MakeRun = Callable[..., RunDir]


def blobs(count: int = 90) -> Split:
    """Three classes of points, far apart."""
    targets = np.arange(count) % 3
    noise = np.random.default_rng(count).normal(size=(count, 2))
    return Split(np.array([[0, 4], [4, 0], [-4, -4]])[targets] + noise, targets)


class Blobs(TorchTrainer):
    """The shipped trainer with a model and data of its own."""

    examples = 90

    def __init__(self, *args, **kwargs) -> None:
        if len(args) < 4:
            kwargs.setdefault("batch_size", self.examples)
        super().__init__(*args, **kwargs)

    def build_model(self, run: Run) -> nn.Module:
        return MLP([2], 3, hidden=8)

    def build_data(self, run: Run) -> object:
        return Data(blobs(90), blobs(30), record={"name": "blobs"})


class Line(Blobs):
    """A regression; targets of shape [examples, width]."""

    examples, width = 40, 1

    def build_model(self, run: Run) -> nn.Module:
        return nn.Linear(1, 1)

    def build_data(self, run: Run) -> object:
        x = np.linspace(-1, 1, 40).reshape(40, 1)
        split = Split(x, np.repeat(3 * x + 1, self.width, axis=1))
        return {"train": (split.inputs, split.targets), "validation": (split.inputs, split.targets)}


@pytest.fixture(autouse=True)
def _cache_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def fit(make_run: MakeRun):
    """Trains in a new run folder from seed 0; returns the metrics and the folder."""

    def fit(trainer: TorchTrainer, name: str = "0000", config: dict | None = None):
        folder = make_run(config, name=name)
        setup(seed=0)
        with Run.open(folder.path) as run:
            return trainer.fit(run), folder

    return fit


def logged(folder: RunDir) -> list[dict[str, float]]:
    records = (record for record, _ in folder.records() if record.metrics)
    return [{**record.metrics, "step": record.step} for record in records]


def weights(folder: RunDir) -> dict[str, torch.Tensor]:
    path = max(folder.checkpoints.glob("step-*")) / "state.pt"
    return torch.load(path, weights_only=True)["model"]


def whole_config(**training: object) -> dict:
    """The shipped config files, put together without Hydra's command line."""
    loop = OmegaConf.load(CONF / "training" / "default.yaml")
    del loop["defaults"]
    loop.optimizer = OmegaConf.load(CONF / "training" / "optimizer" / "adam.yaml")
    loop.merge_with(training)
    return {
        "seed": 0,
        "framework": OmegaConf.load(CONF / "framework" / "torch.yaml"),
        "data": OmegaConf.load(CONF / "data" / "mnist.yaml"),
        "model": OmegaConf.load(CONF / "model" / "mlp.yaml"),
        "training": loop,
    }


# What it learns and measures


def test_the_shipped_config_learns_digits(make_run: MakeRun):
    folder = make_run(whole_config(epochs=2))
    setup(seed=0)
    with Run.open(folder.path) as run:
        metrics = instantiate(run.config.training).fit(run)
    assert metrics["val/accuracy"] > 0.9
    assert json.loads((folder.path / "data.json").read_text())["source"] == "embedded"


def test_the_keys_of_the_config_are_the_arguments():
    written = OmegaConf.load(CONF / "training" / "default.yaml")
    chosen_in_defaults = {"optimizer", "scheduler"}
    keys = set(written) - {"defaults", "_target_"} | chosen_in_defaults
    parameters = inspect.signature(TorchTrainer).parameters
    assert keys == set(parameters)
    others = {"early_stopping", "callbacks", "loader", "seed", "freeze", "param_groups"}
    root = OmegaConf.create({"training": written})
    config = {key: root.training[key] for key in keys - chosen_in_defaults - others}
    assert config == {key: parameters[key].default for key in config}
    assert (written.freeze, written.param_groups) == ([], {})


@pytest.mark.parametrize(
    ("name", "rates"),
    [
        ("cosine", [1e-3, 7.5e-4, 2.5e-4]),
        ("warmup_cosine", [5e-4, 1e-3, 5e-4]),
        ("step", [1e-3, 1e-3, 5e-4]),
        ("plateau", [1e-3, 1e-3, 1e-3]),
    ],
)
def test_each_shipped_scheduler_follows_the_epochs(make_run: MakeRun, name: str, rates: list):
    config = whole_config(epochs=3, batch_size=2000, overfit_batch=True)
    config["training"].scheduler = OmegaConf.load(CONF / "training" / "scheduler" / f"{name}.yaml")
    folder = make_run(config)
    with Run.open(folder.path) as run:
        instantiate(run.config.training).fit(run)
    assert [record["lr"] for record in logged(folder)] == pytest.approx(rates)


def test_many_batches_are_all_counted(fit):
    _, few = fit(Blobs(FROZEN, epochs=1, batch_size=90))
    _, many = fit(Blobs(FROZEN, epochs=1, batch_size=1), name="0001")
    assert logged(many)[0]["train/loss"] == pytest.approx(logged(few)[0]["train/loss"], rel=1e-5)


def test_the_loop_does_what_a_loop_by_hand_does(fit):
    _, folder = fit(Blobs(SGD, epochs=2, batch_size=90))
    setup(seed=0)
    model = MLP([2], 3, hidden=8)
    x, y = torch.from_numpy(blobs(90).inputs).float(), torch.from_numpy(blobs(90).targets)
    for _ in range(2):  # a batch of everything, so that its order does not matter
        nn.functional.cross_entropy(model(x), y).backward()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= 0.1 * parameter.grad
                parameter.grad = None
    for name, value in weights(folder).items():
        torch.testing.assert_close(value, model.state_dict()[name])


def test_regression_measures_the_loss_and_the_mean_absolute_error(fit):
    trainer = Line(SGD, epochs=40, loss="mse", monitor="val/loss", mode="min")
    metrics, folder = fit(trainer)
    names = {f"{part}/{name}" for part in ("train", "val") for name in ("loss", "mae", "r2")}
    assert set(metrics) == {*names, "lr", "epoch"}
    assert metrics["val/loss"] < 0.1 * logged(folder)[0]["val/loss"]


def test_targets_that_would_be_broadcast_are_refused(fit):
    trainer = Line(SGD, loss="mse", monitor="val/loss", mode="min")
    trainer.width = 2
    with pytest.raises(DataError, match=r"outputs of shape \[40, 1\] and targets of shape \[40, 2"):
        fit(trainer)


@pytest.mark.parametrize(
    "loss", [nn.L1Loss(), functools.partial(nn.functional.l1_loss, reduction="mean")]
)
def test_a_loss_can_be_any_callable(fit, loss):
    metrics, _ = fit(Line(FROZEN, epochs=1, loss=loss, monitor="val/loss", mode="min"))
    setup(seed=0)
    model, x = nn.Linear(1, 1), torch.linspace(-1, 1, 40)[:, None]
    by_hand = (model(x) - 3 * x - 1).abs().mean().item()
    assert metrics["val/loss"] == pytest.approx(by_hand, rel=1e-4)


def test_a_subclass_can_measure_what_it_likes_on_batches_of_its_own(fit):
    class Custom(Blobs):
        def build_data(self, run: Run) -> object:
            rows = [{"point": torch.ones(2), "label": 1}] * 10
            return {"train": DataLoader(rows, 4), "validation": DataLoader(rows, 4)}

        def training_step(self, model: nn.Module, batch: dict) -> dict:
            outputs = model(batch["point"])
            loss = nn.functional.cross_entropy(outputs, batch["label"])
            return {"loss": loss, "size": torch.tensor(float(len(outputs)))}

    metrics, _ = fit(Custom(SGD, epochs=1, monitor="val/size"))
    assert metrics["train/size"] == metrics["val/size"] == (4 * 4 + 4 * 4 + 2 * 2) / 10


def test_dropout_is_on_in_training_and_off_in_validation(fit):
    modes = []

    class Watched(Blobs):
        def training_step(self, model: nn.Module, batch):
            modes.append((model.training, torch.is_grad_enabled()))
            return super().training_step(model, batch)

    fit(Watched(SGD, epochs=1))
    assert modes == [(True, True), (False, False)]


# How a step is made


def test_bf16_is_the_forward_passs_alone(fit):
    kinds = set()

    class Watched(Blobs):
        def training_step(self, model: nn.Module, batch):
            kinds.add(model(batch[0]).dtype)
            return super().training_step(model, batch)

    metrics, folder = fit(Watched(SGD, epochs=5, batch_size=16, precision="bf16"))
    assert kinds == {torch.bfloat16}
    assert {value.dtype for value in weights(folder).values()} == {torch.float32}
    assert metrics["val/accuracy"] > 0.9


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_gpu_learns_in_every_precision(fit, precision: str):
    trainer = Blobs(SGD, None, 5, 16, device="gpu", precision=precision, clip_norm=1.0)
    metrics, _ = fit(trainer)
    assert metrics["val/accuracy"] > 0.9


def test_the_plateau_scheduler_follows_the_monitored_metric(fit):
    plateau = functools.partial(
        torch.optim.lr_scheduler.ReduceLROnPlateau, mode="max", factor=0.1, patience=1
    )
    slow = functools.partial(torch.optim.SGD, lr=1e-6)
    _, folder = fit(Blobs(slow, plateau, epochs=4))
    assert [record["lr"] for record in logged(folder)] == pytest.approx([1e-6] * 3 + [1e-7])


# How it ends


def test_a_monitored_metric_that_is_nan_ends_the_training(fit):
    class Broken(Blobs):
        def training_step(self, model: nn.Module, batch):
            measures = super().training_step(model, batch)
            return {**measures, "score": torch.tensor(math.nan)}

    with pytest.raises(Diverged, match="val/score became nan at step 1"):
        fit(Broken(SGD, monitor="val/score"))


# What it saves


def test_the_datas_record_lies_in_the_run_folder(fit):
    _, folder = fit(Blobs(SGD, epochs=1))
    record = json.loads((folder.path / "data.json").read_text())
    assert record == {
        "name": "blobs",
        "examples": {"train": 90, "validation": 30},
        "input_shape": [2],
        "input_dtype": "float64",
        "classes": 3,
        "mean": 0.0,
        "std": 1.0,
        "schema": [{"name": "inputs", "dtype": "float32", "shape": [2]}],
    }


# What it refuses


@pytest.mark.skipif(torch.cuda.is_available(), reason="is about machines without a GPU")
def test_a_gpu_that_is_not_there_is_refused(fit):
    with pytest.raises(ConfigError, match=r"training\.device: Received 'gpu'"):
        fit(Blobs(SGD, device="gpu"))


def test_replicas_that_the_trial_was_not_started_for_are_refused(fit, monkeypatch):
    monkeypatch.setenv(THREADS_VARIABLE, "1")
    with pytest.raises(ConfigError, match=r"Received 2, and the trial has 1 process\.\nSet it in"):
        fit(Blobs(SGD, replicas=2, device="cpu"))


@pytest.mark.parametrize("answer", [torch.tensor(1.0), {"accuracy": torch.tensor(1.0)}, None])
def test_a_training_step_without_a_loss_is_refused(fit, answer):
    class Broken(Blobs):
        def training_step(self, model: nn.Module, batch):
            return answer

    with pytest.raises(ConfigError, match=r"Expected a dict of scalar tensors with 'loss'"):
        fit(Broken(SGD))


def test_a_batch_larger_than_the_data_is_refused(fit):
    with pytest.raises(ConfigError, match=r"training\.batch_size: Received 91, and there are 90"):
        fit(Blobs(SGD, batch_size=91))


def test_data_without_a_batch_is_refused(fit):
    class Empty(Blobs):
        def build_data(self, run: Run) -> object:
            nothing = TensorDataset(torch.zeros(0, 2), torch.zeros(0))
            return {"train": DataLoader(nothing), "validation": DataLoader(nothing)}

    with pytest.raises(DataError, match="no batch to measure train/loss on"):
        fit(Empty(SGD))


@pytest.mark.parametrize(
    ("config", "error", "message"),
    [
        ({}, ConfigError, "data: Received nothing"),
        ({"data": DIGITS}, ConfigError, "model: Received nothing"),
        (
            {"data": DIGITS, "model": {"_target_": "builtins.dict"}},
            ConfigError,
            r"model: Received builtins\.dict",
        ),
        (
            {"data": DIGITS, "model": {"_target_": "torch.nn.Identity", "input_shape": [3, 8, 8]}},
            ConfigError,
            r"model\.input_shape: Received \[3, 8, 8\]\. Expected \[1, 28, 28\]",
        ),
        (
            {"data": DIGITS, "model": {"_target_": "torch.nn.Identity", "classes": 9}},
            DataError,
            r"Received labels up to 9\. The model has 9 classes[\s\S]*model\.classes=10",
        ),
        (
            {
                "model": {"_target_": "torch.nn.Identity"},
                "data": {"_target_": "dlsweep.data.mnist", "classes": 3},
            },
            ConfigError,
            r"data\.classes: Received 3",
        ),
        (
            {
                "model": {"_target_": "torch.nn.Identity"},
                "data": {"_target_": "builtins.dict", "train": 1},
            },
            DataError,
            "data: Received a dict with 'train'",
        ),
    ],
)
def test_a_config_that_cannot_work_says_where(fit, config: dict, error: type, message: str):
    with pytest.raises(error, match=message):
        fit(TorchTrainer(SGD), config=config)


def test_data_that_is_not_in_memory_cannot_tell_the_model_its_shapes(fit):
    class Streamed(TorchTrainer):
        def build_data(self, run: Run) -> object:
            points = TensorDataset(torch.zeros(4, 2), torch.zeros(4))
            return {"train": points, "validation": points}

    model = {"_target_": "dlsweep.torch.models.MLP", "hidden": 4, "classes": 2}
    with pytest.raises(ConfigError, match=r"model\.input_shape: a value is needed"):
        fit(Streamed(SGD), config={"model": {**model, "input_shape": None}})
