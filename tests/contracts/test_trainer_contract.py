"""What the trainer of every framework must do, with the same arguments to the same end."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dlsweep.data import Augmentation, Data, Split
from dlsweep.errors import CheckpointError, ConfigError, DataError, Diverged
from dlsweep.folders.lineage import Inheritance
from dlsweep.folders.rundir import RunDir
from dlsweep.run.inheritance import newest, stage, take
from dlsweep.run.run import Run
from dlsweep.trainers import Trainer
from dlsweep.trainers.callbacks import Callback
from dlsweep.trainers.early_stopping import EarlyStopping
from dlsweep.trainers.histograms import Histograms

pytestmark = pytest.mark.slow

IMAGES = np.random.default_rng(0).normal(size=(70, 1, 8, 8)).astype(np.float32)
LABELS = np.arange(70) % 4
CNN = {"input_shape": [1, 8, 8], "classes": 4, "channels": [4, 8], "hidden": 16, "dropout": 0.5}
MLP = {"input_shape": [2], "classes": 3, "hidden": 8}


class Torch:
    """PyTorch's side of the contract."""

    optimizers = "torch.optim"
    schedulers = "torch.optim.lr_scheduler"
    module = "dlsweep.torch.trainer"
    trainer = "TorchTrainer"
    models = "dlsweep.torch.models"
    # Of the CNN: the names of its first block, of the second kernel, of dense layers.
    first, second_kernel, dense = r"layers\.0\..*", r"layers\.1\.0\.weight", r"layers\.[36]\..*"
    # Which of its weights stay: kernel, weight, bias, mean, variance (and count) of each block.
    frozen = [True] * 6 + [True, False, False, False, False, False] + [False] * 4

    def order(self, seed: int, epoch: int, examples: int) -> np.ndarray:
        import torch

        from dlsweep.torch.loader import generator

        return torch.randperm(examples, generator=generator(seed, epoch)).numpy()

    def linear(self, features: int) -> Any:
        """A linear model that starts with zeros."""
        import torch

        model = torch.nn.Linear(features, 1, bias=False)
        torch.nn.init.zeros_(model.weight)
        return model

    def weights(self, checkpoint: Path) -> list[np.ndarray]:
        import torch

        state = torch.load(checkpoint / "state.pt", weights_only=True)
        return [np.asarray(value) for value in state["model"].values()]

    def arrays(self, checkpoint: Path) -> list[np.ndarray]:
        import torch

        weights = torch.load(checkpoint / "state.pt", weights_only=True)
        state = torch.load(checkpoint / "resume.pt", weights_only=True)
        found = [*weights["model"].values(), *state.get("trained", {}).values()]
        for each in state["optimizer"]["state"].values():
            found += [value for value in each.values() if value is not None]
        return [np.asarray(value) for value in found]


class Keras:
    """Keras's side of the contract, on whichever backend it has been loaded."""

    optimizers = "dlsweep.keras.optimizers"
    schedulers = "dlsweep.keras.schedulers"
    module = "dlsweep.keras.trainer"
    trainer = "KerasTrainer"
    models = "dlsweep.keras.models"
    first, second_kernel = r".*/(conv2d|batch_normalization)/.*", r".*/conv2d_1/kernel"
    dense = r".*/dense.*"
    frozen = [True] * 5 + [True, False, False, False, False] + [False] * 4

    def order(self, seed: int, epoch: int, examples: int) -> np.ndarray:
        return np.random.default_rng((seed, epoch)).permutation(examples)

    def linear(self, features: int) -> Any:
        """A linear model that starts with zeros."""
        import keras

        layer = keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")
        return keras.Sequential([keras.Input((features,)), layer])

    def weights(self, checkpoint: Path) -> list[np.ndarray]:
        with np.load(checkpoint / "variables.npz") as values:
            return [values[name] for name in values.files if name.startswith("model/")]

    def arrays(self, checkpoint: Path) -> list[np.ndarray]:
        arrays = []
        for name in ("variables.npz", "resume.npz"):
            with np.load(checkpoint / name) as values:
                arrays += [values[name] for name in values.files]
        return arrays


Side = Torch | Keras
Fit = Callable[..., tuple[dict[str, float], RunDir]]


@pytest.fixture(params=[Torch, Keras], ids=["torch", "keras"])
def side(request: pytest.FixtureRequest) -> Side:
    return request.param()


class Disturbed(Run):
    """A run that is stopped or broken off at the end of an epoch."""

    stop_at: int = 0
    crash_at: int = 0

    def log(self, metrics: dict[str, float], step: int) -> None:
        if step == self.crash_at:
            raise CrashError
        super().log(metrics, step)
        if step == self.stop_at:
            self.stop("pruned")


class CrashError(Exception):
    pass


def blobs(count: int = 90) -> Split:
    """Three classes of points, far apart."""
    targets = np.arange(count) % 3
    noise = np.random.default_rng(count).normal(size=(count, 2))
    return Split(np.array([[0, 4], [4, 0], [-4, -4]])[targets] + noise, targets)


def two_sets() -> Data:
    return Data(blobs(90), blobs(30), record={"name": "blobs"})


def trainer(
    side: Side,
    optimizer: dict[str, float] | None = None,
    scheduler: dict[str, Any] | None = None,
    model: tuple[str, dict] = ("MLP", MLP),
    data: Callable[[], object] = two_sets,
    **options: Any,
) -> Trainer:
    """A trainer of that framework; optimizer and scheduler by name and arguments."""

    def part(module: str, spec: dict[str, Any]) -> functools.partial:
        arguments = dict(spec)
        return functools.partial(
            getattr(importlib.import_module(module), arguments.pop("name")), **arguments
        )

    base = getattr(importlib.import_module(side.module), side.trainer)

    class Tried(base):
        def build_model(self, run: Run) -> object:
            return getattr(importlib.import_module(side.models), model[0])(**model[1])

        def build_data(self, run: Run) -> object:
            return data()

    options.setdefault("batch_size", 30)
    return Tried(
        part(side.optimizers, optimizer or {"name": "SGD", "lr": 0.1}),
        part(side.schedulers, scheduler) if scheduler else None,
        **options,
    )


@pytest.fixture
def fit(side: Side, make_run: Callable[..., RunDir]) -> Fit:
    """Trains in a run folder from a seed; returns the metrics and the folder."""

    def fit(
        tried: Trainer, name: str = "0000", seed: int = 0, stop_at: int = 0, crash_at: int = 0
    ) -> tuple[dict[str, float], RunDir]:
        direction = "maximize" if tried.mode == "max" else "minimize"
        folder = make_run(name=name, objective=[tried.monitor], directions=[direction])
        importlib.import_module(side.module).setup(seed=seed)
        with Disturbed.open(folder.path) as run:
            run.stop_at, run.crash_at = stop_at, crash_at
            return tried.fit(run), folder

    return fit


def logged(folder: RunDir) -> list[dict[str, float]]:
    records = (record for record, _ in folder.records() if record.metrics)
    return [{**record.metrics, "step": record.step} for record in records]


def media(folder: RunDir) -> dict[str, Any]:
    return {name: one for record, _ in folder.records() for name, one in record.media.items()}


def last(folder: RunDir) -> Path:
    return max(folder.checkpoints.glob("step-*"))


# What it learns and measures


def test_every_epoch_is_logged_with_what_there_is_to_know(side: Side, fit: Fit) -> None:
    metrics, folder = fit(trainer(side, epochs=3, batch_size=32))
    records = logged(folder)
    assert [record["step"] for record in records] == [1, 2, 3]
    names = {"train/loss", "train/accuracy", "val/loss", "val/accuracy", "lr", "epoch", "step"}
    assert all(set(record) == names for record in records)
    assert [record["lr"] for record in records] == [0.1] * 3
    assert metrics["val/accuracy"] > 0.95
    assert records[-1]["train/loss"] < records[0]["train/loss"]
    note = json.loads((folder.path / "data.json").read_text())
    assert note["name"] == "blobs"
    assert note["examples"] == {"train": 90, "validation": 30}
    assert note["input_shape"] == [2]


@pytest.mark.parametrize("tested", [False, True], ids=["val", "test"])
def test_a_classifier_ends_with_a_table_of_where_it_errs(
    side: Side, fit: Fit, tested: bool
) -> None:
    sets = [blobs(90), blobs(31), blobs(32)] if tested else [blobs(90), blobs(31)]
    metrics, folder = fit(trainer(side, data=lambda: Data(*sets), epochs=3, batch_size=20))
    part = "test" if tested else "val"
    found = media(folder)
    assert set(found) == {f"{part}/confusion", f"{part}/predictions"}
    counts = np.array(found[f"{part}/confusion"]["rows"])[:, 1:]
    assert counts.sum(1).tolist() == np.bincount(sets[-1].targets).tolist()
    accuracy = counts.trace() / counts.sum()
    assert accuracy == pytest.approx(metrics[f"{part}/accuracy"])
    assert [row[1] for row in found[f"{part}/predictions"]["rows"]] == [0, 1, 2] * 6 + [0, 1]


def test_only_a_classifier_that_was_not_stopped_ends_so(side: Side, fit: Fit) -> None:
    _, stopped = fit(trainer(side, epochs=3), stop_at=1)
    assert media(stopped) == {}
    values = Split(blobs(90).inputs, np.zeros((90, 3), np.float32))
    regression = trainer(
        side, data=lambda: Data(values, values), loss="mse", monitor="val/loss", mode="min"
    )
    assert media(fit(regression, name="0001")[1]) == {}


def test_histograms_of_weights_and_gradients_are_logged_where_asked(side: Side, fit: Fit) -> None:
    sgd = {"name": "SGD", "lr": 0.1}
    callbacks = [Histograms(every=2)]
    _, folder = fit(trainer(side, sgd, epochs=2, batch_size=90, callbacks=callbacks))
    found = media(folder)
    weights = {name.partition("/")[2] for name in found if name.startswith("weights/")}
    gradients = {name.partition("/")[2] for name in found if name.startswith("gradients/")}
    assert len(weights) == 4, "two layers of kernel and bias"
    assert gradients == weights
    assert [record.step for record, _ in folder.records() if record.media][:1] == [2]
    before, after = (side.weights(path) for path in sorted(folder.checkpoints.glob("step-*")))
    moved = sorted(float((old - new).sum() / 0.1) for old, new in zip(before, after, strict=True))
    told = sorted(found[f"gradients/{name}"]["sum"] for name in gradients)
    assert told == pytest.approx(moved, abs=1e-4)


def test_means_weigh_each_example_the_same(side: Side, fit: Fit) -> None:
    frozen = {"name": "SGD", "lr": 0.0}
    one, _ = fit(trainer(side, frozen, epochs=1, batch_size=90))
    other, _ = fit(trainer(side, frozen, epochs=1, batch_size=64), name="0001")
    assert other == pytest.approx(one, rel=1e-5)


@pytest.mark.parametrize(
    ("monitor", "mode"), [("val/loss", "min"), ("val/accuracy", "max"), ("train/loss", "max")]
)
def test_the_best_epoch_is_returned_and_kept(side: Side, fit: Fit, monitor: str, mode: str) -> None:
    metrics, folder = fit(trainer(side, epochs=4, monitor=monitor, mode=mode))
    pick = max if mode == "max" else min
    assert metrics[monitor] == pick(record[monitor] for record in logged(folder))
    kept = [json.loads(each.read_text()) for each in folder.checkpoints.glob("*/manifest.json")]
    assert metrics in [each["metrics"] for each in kept]


@pytest.mark.parametrize(
    ("scheduler", "rates"),
    [
        ({"name": "StepLR", "step_size": 2, "gamma": 0.5}, [1e-6, 1e-6, 5e-7, 5e-7]),
        ({"name": "CosineAnnealingLR", "T_max": 4}, [1e-6, 8.53553e-7, 5e-7, 1.46447e-7]),
        ({"name": "ReduceLROnPlateau", "mode": "max", "patience": 1}, [1e-6, 1e-6, 1e-6, 1e-7]),
    ],
)
def test_a_scheduler_follows_the_epochs(
    side: Side, fit: Fit, scheduler: dict, rates: list[float]
) -> None:
    still = {"name": "SGD", "lr": 1e-6}  # so slow that the accuracy stays as it is
    _, folder = fit(trainer(side, still, scheduler, epochs=4))
    assert [record["lr"] for record in logged(folder)] == pytest.approx(rates, rel=1e-5)


# How it goes on from another trial's checkpoint


def inherit(
    side: Side, make_run: Callable[..., RunDir], donor: RunDir, tried: Trainer
) -> tuple[dict[str, float], RunDir]:
    """Trains on from the latest checkpoint of another run, as population based training does."""
    folder = make_run(name="0001", objective=[tried.monitor], directions=["maximize"])
    found = newest(donor, 1, 9)
    entry = Inheritance(1, 0, found.step, found.path.name, {})
    assert stage(found, folder, entry)
    take(folder, [entry])
    importlib.import_module(side.module).setup(seed=0)
    with Run.open(folder.path) as run:
        return tried.fit(run), folder


@pytest.mark.parametrize(
    ("scheduler", "rates"),
    [
        (None, [2e-6, 2e-6]),
        ({"name": "CosineAnnealingLR", "T_max": 4}, [1e-6, 2 * 1.46447e-7]),
        ({"name": "ReduceLROnPlateau", "mode": "max", "patience": 1}, [2e-6, 2e-7]),
    ],
)
def test_an_inherited_training_has_the_learning_rate_of_its_config(
    side: Side,
    fit: Fit,
    make_run: Callable[..., RunDir],
    scheduler: dict[str, Any] | None,
    rates: list[float],
) -> None:
    first, second = ({"name": "SGD", "lr": rate} for rate in (1e-6, 2e-6))
    _, donor = fit(trainer(side, first, scheduler, epochs=4), stop_at=2)
    _, heir = inherit(side, make_run, donor, trainer(side, second, scheduler, epochs=4))
    assert [record["step"] for record in logged(heir)] == [3, 4]
    assert [record["lr"] for record in logged(heir)] == pytest.approx(rates, rel=1e-5)


def test_an_inherited_training_goes_on_to_the_last_bit_and_with_its_own_options(
    side: Side, fit: Fit, make_run: Callable[..., RunDir]
) -> None:
    def sgd(momentum: float) -> Trainer:
        return trainer(side, {"name": "SGD", "lr": 0.05, "momentum": momentum}, epochs=4)

    _, donor = fit(sgd(0.5), stop_at=2)
    _, undisturbed = fit(sgd(0.5), name="0002")
    metrics, heir = inherit(side, make_run, donor, sgd(0.5))
    for expected, found in zip(
        side.arrays(last(undisturbed)), side.arrays(last(heir)), strict=True
    ):
        np.testing.assert_array_equal(found, expected)
    kept = [json.loads(each.read_text()) for each in heir.checkpoints.glob("*/manifest.json")]
    assert metrics in [each["metrics"] for each in kept], "the best that it has the weights of"
    before = side.weights(last(heir))
    _, other = inherit(side, make_run, donor, sgd(0.9))
    pairs = zip(before, side.weights(last(other)), strict=True)
    assert any((one != another).any() for one, another in pairs)


# How it ends


def test_patience_ends_a_training_that_no_longer_improves(side: Side, fit: Fit) -> None:
    frozen = {"name": "SGD", "lr": 0.0}
    _, folder = fit(trainer(side, frozen, epochs=9, early_stopping=EarlyStopping(patience=2)))
    assert [record["step"] for record in logged(folder)] == [1, 2, 3]


def test_an_average_of_the_weights_is_what_is_measured_and_kept(side: Side, fit: Fit) -> None:
    def kept(name: str, epochs: int, **average: float) -> tuple[list[np.ndarray], float]:
        _, folder = fit(trainer(side, batch_size=90, epochs=epochs, **average), name)
        return side.weights(last(folder)), logged(folder)[-1]["val/loss"]

    ends = [kept(f"000{epoch}", epoch)[0] for epoch in (1, 2, 3, 4)]
    first, loss_of_first = kept("0005", 4, swa_start=4)
    mean, loss_of_mean = kept("0006", 4, swa_start=2)
    moving, loss_of_moving = kept("0007", 4, ema_decay=0.75)  # an epoch is one step
    one_by_one = zip(first, mean, moving, zip(*ends, strict=True), strict=True)
    for of_first, of_mean, of_moving, steps in one_by_one:
        np.testing.assert_array_equal(of_first, steps[-1])
        np.testing.assert_allclose(of_mean, np.mean(steps[1:], axis=0), rtol=1e-4, atol=1e-6)
        expected = functools.reduce(lambda average, step: 0.75 * average + 0.25 * step, steps)
        np.testing.assert_allclose(of_moving, expected, rtol=1e-4, atol=1e-6)
    # averages hold weights from before, of a training that improves
    assert loss_of_moving > loss_of_mean > loss_of_first


def test_a_wish_to_stop_is_met_at_the_epochs_end(side: Side, fit: Fit) -> None:
    metrics, folder = fit(trainer(side, epochs=5, checkpoint_every=4), stop_at=1)
    assert metrics["epoch"] == 1
    assert [path.name for path in folder.checkpoints.glob("step-*")] == ["step-00000001"]


@pytest.mark.parametrize(
    ("end", "scheduler", "swa_start"),
    [({"stop_at": 2}, "StepLR", None), ({"crash_at": 3}, "ReduceLROnPlateau", 2)],
)
def test_a_resumed_run_ends_as_an_undisturbed_one_to_the_last_bit(
    side: Side,
    make_run: Callable[..., RunDir],
    end: dict[str, int],
    scheduler: str,
    swa_start: int | None,
) -> None:
    schedules = {
        "StepLR": {"step_size": 3, "gamma": 0.5},
        "ReduceLROnPlateau": {"mode": "max", "patience": 0, "factor": 0.5},
    }
    straight, broken = make_run(name="0000"), make_run(name="0001")

    def attempt(folder: RunDir, seed: int, **end: int) -> dict[str, float]:
        importlib.import_module(side.module).setup(seed=seed)
        tried = trainer(
            side,
            {"name": "Adam", "lr": 0.01, "weight_decay": 0.01},
            {"name": scheduler, **schedules[scheduler]},
            ("CNN", CNN),
            lambda: Data(Split(IMAGES, LABELS), Split(IMAGES[:20], LABELS[:20])),
            epochs=5,
            batch_size=16,
            accumulate=2,
            clip_norm=1.0,
            swa_start=swa_start,
        )
        with Disturbed.open(folder.path) as run:
            vars(run).update(end)
            return tried.fit(run)

    expected = attempt(straight, 1)
    with contextlib.suppress(CrashError):
        attempt(broken, 1, **end)
    assert len(logged(broken)) == 2
    assert attempt(broken, 99) == expected
    assert logged(broken) == logged(straight)
    for one, other in zip(side.arrays(last(broken)), side.arrays(last(straight)), strict=True):
        np.testing.assert_array_equal(one, other)


class Counts(Callback):
    """Remembers which batches it was told of; breaks off at one of them."""

    def __init__(self, crash_at: int = 0) -> None:
        self.crash_at = crash_at
        self.begun: list[int] = []
        self.ended: list[int] = []

    def on_train_batch_begin(self, batch: int) -> None:
        self.begun.append(batch)

    def on_train_batch_end(self, batch: int) -> None:
        self.ended.append(batch)
        assert not list(self.run.dir.checkpoints.glob("*+")), "nothing is saved a second time"
        if batch == self.crash_at:
            raise CrashError

    def state_dict(self) -> dict[str, list[int]]:
        return {"begun": self.begun, "ended": self.ended}

    def load_state_dict(self, state: dict[str, list[int]]) -> None:
        self.begun, self.ended = list(state["begun"]), list(state["ended"])


class Impatient(Run):
    """A run that is asked to stop once its trainer has looked so often."""

    looks = 0

    @property
    def should_stop(self) -> bool:
        self.looks += 1
        if self.looks == 8:
            self.stop("preempted")
        return super().should_stop


@pytest.mark.parametrize("how", ["crashed", "preempted"])
def test_it_is_so_in_the_middle_of_an_epoch_too(
    side: Side, make_run: Callable[..., RunDir], how: str
) -> None:
    straight, broken = make_run(name="0000"), make_run(name="0001")
    augmented = Data(
        Split(IMAGES, LABELS),
        Split(IMAGES[:20], LABELS[:20]),
        augmentation=Augmentation(horizontal_flip=0.5, shift=0.2),
    )

    def attempt(folder: RunDir, seed: int, *callbacks: Counts, run: type[Run] = Run) -> object:
        importlib.import_module(side.module).setup(seed=seed)
        tried = trainer(
            side,
            {"name": "Adam", "lr": 0.01},
            {"name": "StepLR", "step_size": 2},
            ("CNN", CNN),
            lambda: augmented,
            epochs=4,
            batch_size=16,  # five of them, the last with 6 examples
            clip_norm=1.0,
            ema_decay=0.9,
            callbacks=callbacks,
            checkpoint_steps=1,
        )
        with run.open(folder.path) as opened:
            return tried.fit(opened)

    if how == "preempted":
        expected = attempt(straight, 1)
        attempt(broken, 1, run=Impatient)
        assert "." in last(broken).name, "saved in the middle of an epoch"
        assert attempt(broken, 99) == expected
    else:
        whole, again = Counts(), Counts()
        expected = attempt(straight, 1, whole)
        with pytest.raises(CrashError):
            attempt(broken, 1, Counts(crash_at=13))
        assert last(broken).name == "step-00000002.00000002"
        assert attempt(broken, 99, again) == expected
        assert again.state_dict() == whole.state_dict(), "no batch is told of twice"
    assert logged(broken) == logged(straight)
    for one, other in zip(side.arrays(last(broken)), side.arrays(last(straight)), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_finished_run_is_not_trained_again(side: Side, make_run: Callable[..., RunDir]) -> None:
    folder = make_run()
    results = []
    for _ in range(2):
        with Run.open(folder.path) as run:
            results.append(trainer(side, epochs=2).fit(run))
    assert results[0] == results[1]
    assert len(logged(folder)) == 2


def overflowing(split: Split) -> Split:
    """Inputs that make logits NaN. NaN inputs do not: the fused ReLU of some CPUs makes them 0."""
    split.inputs[:] = 0
    split.inputs[::2, 0], split.inputs[1::2, 0] = np.inf, -np.inf
    return split


def test_a_loss_that_is_not_finite_ends_the_training_at_its_batch(side: Side, fit: Fit) -> None:
    split = overflowing(blobs(90))
    tried = trainer(side, data=lambda: Data(split, blobs(30)), batch_size=30)
    with pytest.raises(Diverged, match="train/loss became nan at step 1"):
        fit(tried)


def test_a_validation_loss_that_is_not_finite_ends_the_training(side: Side, fit: Fit) -> None:
    split = overflowing(blobs(30))
    tried = trainer(side, data=lambda: Data(blobs(90), split), batch_size=30)
    with pytest.raises(Diverged, match="val/loss became nan at step 3"):
        fit(tried)


# What it saves


@pytest.mark.parametrize(("every", "steps"), [(2, [1, 2, 4, 5]), (3, [1, 3, 5])])
def test_the_best_and_the_last_epoch_are_saved_whatever_the_interval(
    side: Side, fit: Fit, every: int, steps: list[int]
) -> None:
    tried = trainer(
        side, epochs=5, checkpoint_every=every, monitor="train/loss", mode="max", batch_size=30
    )
    _, folder = fit(tried)
    saved = sorted(int(path.name[-8:]) for path in folder.checkpoints.glob("step-*"))
    assert saved == [step for step in steps if step == 1 or step >= steps[-2]]


def test_a_checkpoint_of_another_model_is_refused(side: Side, make_run: Any) -> None:
    folder = make_run()
    for hidden, error in ((8, contextlib.nullcontext()), (9, pytest.raises(CheckpointError))):
        tried = trainer(side, model=("MLP", {**MLP, "hidden": hidden}), epochs=hidden)
        with Disturbed.open(folder.path) as run, error:
            run.stop_at = 1
            tried.fit(run)


# What it refuses


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"epochs": 0}, r"training\.epochs: Received 0\. Expected 1 or more"),
        ({"batch_size": 0}, r"training\.batch_size: Received 0"),
        ({"accumulate": 0}, r"training\.accumulate: Received 0"),
        ({"checkpoint_every": 0}, r"training\.checkpoint_every: Received 0"),
        ({"seed": -1}, r"training\.seed: Received -1\. Expected 0 or more"),
        ({"clip_norm": 0.0}, r"training\.clip_norm: Received 0\.0"),
        ({"clip_norm": math.nan}, r"training\.clip_norm: Received nan"),
        ({"ema_decay": 1.0}, r"training\.ema_decay: Received 1\.0"),
        ({"profiler": [0, 2]}, r"training\.profiler: Received \[0, 2\]"),
        ({"callbacks": [print]}, r"callbacks\[0\]: Received builtins\.builtin_function"),
        ({"swa_start": 6}, r"training\.swa_start: Received 6\. Expected an epoch from 1 to 5"),
        ({"swa_start": 2, "ema_decay": 0.9}, r"training\.ema_decay: Received both"),
        ({"device": "tpu"}, r"training\.device: Received 'tpu'\. Expected one of auto, cpu, gpu"),
        ({"precision": "int8"}, r"training\.precision: Received 'int8'"),
        ({"mode": "most"}, r"training\.mode: Received 'most'"),
        ({"loss": "crossentropy"}, r"training\.loss: Received 'crossentropy'"),
    ],
)
def test_an_argument_out_of_its_range_is_refused(
    side: Side, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        trainer(side, **arguments)


def test_fp16_on_a_cpu_is_refused_with_the_reason(side: Side, fit: Fit) -> None:
    with pytest.raises(ConfigError, match=r"'fp16' on a CPU[\s\S]*training\.precision=bf16"):
        fit(trainer(side, device="cpu", precision="fp16"))
    with pytest.raises(ConfigError, match="'fp16' on a CPU"):  # and before anything starts
        trainer(side, device="cpu", precision="fp16").preflight()


def test_a_monitor_that_is_not_measured_is_refused_after_one_epoch(side: Side, fit: Fit) -> None:
    with pytest.raises(ConfigError, match=r"'val/f1'[\s\S]*one of epoch, lr, train/accuracy"):
        fit(trainer(side, epochs=9, monitor="val/f1"))


def test_a_plateau_scheduler_that_looks_the_other_way_is_refused(side: Side, fit: Fit) -> None:
    plateau = {"name": "ReduceLROnPlateau", "mode": "min"}
    with pytest.raises(ConfigError, match=r"scheduler\.mode: Received 'min'\. Expected 'max'"):
        fit(trainer(side, None, plateau))


def test_bf16_learns(side: Side, fit: Fit) -> None:
    metrics, folder = fit(trainer(side, epochs=5, batch_size=16, precision="bf16"))
    assert metrics["val/accuracy"] > 0.9
    assert {array.dtype.itemsize for array in side.arrays(last(folder))} <= {4, 8}


def test_accumulated_batches_are_as_good_as_one_large_batch(side: Side, fit: Fit) -> None:
    _, large = fit(trainer(side, epochs=2, batch_size=30))
    _, small = fit(trainer(side, epochs=2, batch_size=10, accumulate=3), name="0001")
    by_size = [logged(folder)[-1]["val/loss"] for folder in (large, small)]
    assert by_size[1] == pytest.approx(by_size[0], rel=1e-4)


def test_the_norm_of_the_gradients_is_clipped(side: Side, fit: Fit) -> None:
    start, free, clipped = (
        side.arrays(last(fit(trainer(side, sgd, epochs=1, batch_size=90, **options), name)[1]))
        for name, sgd, options in (
            ("0000", {"name": "SGD", "lr": 0.0}, {}),
            ("0001", {"name": "SGD", "lr": 1.0}, {}),
            ("0002", {"name": "SGD", "lr": 1.0}, {"clip_norm": 0.01}),
        )
    )

    def moved(arrays: list[np.ndarray]) -> float:
        pairs = list(zip(arrays, start, strict=True))[:4]  # kernels and biases
        return math.sqrt(sum(float(((one - other) ** 2).sum()) for one, other in pairs))

    assert moved(free) > 0.1
    assert moved(clipped) == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize("label", [-1, 3])
def test_labels_outside_the_classes_are_refused(side: Side, fit: Fit, label: int) -> None:
    split = blobs(90)
    split.targets[7] = label
    with pytest.raises(DataError, match=r"(?i)labels from -1|3 classes"):
        fit(trainer(side, data=lambda: Data(split, blobs(30))))


@pytest.mark.parametrize("accumulate", [2, 3, 9])
def test_an_accumulated_step_weights_batches_by_examples_and_ends_with_the_epoch(
    side: Side, fit: Fit, accumulate: int
) -> None:
    random = np.random.default_rng(3)
    points = random.normal(size=(50, 3)).astype(np.float32)
    values = random.normal(size=(50, 1)).astype(np.float32)
    data = Data(Split(points, values), Split(points, values))
    options = {"loss": "mse", "monitor": "val/loss", "mode": "min", "seed": 4}
    tried = trainer(
        side,
        data=lambda: data,
        epochs=2,
        batch_size=11,
        accumulate=accumulate,
        **options,
    )
    tried.build_model = lambda run: side.linear(3)
    found = side.weights(last(fit(tried)[1]))[0].reshape(3, 1)

    expected = np.zeros((3, 1))
    for epoch in (1, 2):
        order = side.order(4, epoch, 50)
        for start in range(0, 50, 11 * accumulate):
            rows = order[start : start + 11 * accumulate]
            error = points[rows] @ expected - values[rows]
            expected -= 0.1 * 2 * points[rows].T @ error / len(rows)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_values_as_targets_of_a_loss_of_classes_are_refused(side: Side, fit: Fit) -> None:
    values = Split(blobs(90).inputs, np.zeros((90, 1), np.float32))
    with pytest.raises(DataError, match=r"(?s)targets of the type float32.*training\.loss=mse"):
        fit(trainer(side, data=lambda: Data(values, values)))


def test_a_regression_logs_the_mean_absolute_error(side: Side, fit: Fit) -> None:
    values = Split(blobs(90).inputs, np.full((90, 3), 2.0, np.float32))
    sgd = {"name": "SGD", "lr": 0.0}
    options = {"loss": "mse", "monitor": "val/mae", "mode": "min", "epochs": 1}
    tried = trainer(side, sgd, data=lambda: Data(values, values), **options)
    metrics, folder = fit(tried)
    with Run.open(folder.path) as run:
        outputs = tried.predict(tried.load_model(run), values.inputs.astype(np.float32))
    assert metrics["val/mae"] == pytest.approx(float(np.abs(outputs - 2).mean()), rel=1e-4)


# Values as targets


def prices(scale: float = 40_000.0) -> Data:
    """Prices that are linear in two features, in two columns of different size."""
    random = np.random.default_rng(5)
    inputs = random.normal(size=(101, 2)).astype(np.float32)
    noise = random.normal(size=(101, 2))
    targets = (inputs @ [[1.0, 2.0], [3.0, -1.0]] + noise) * [scale, 2.0] + [9 * scale, 7.0]
    targets = targets.astype(np.float32)
    return Data(*(Split(inputs[rows], targets[rows]) for rows in (slice(70), slice(70, 101))))


def standardised() -> Data:
    data = prices()
    mean, std = data.train.targets.mean(0), data.train.targets.std(0)
    return dataclasses.replace(data, target_mean=mean, target_std=std)


@pytest.mark.parametrize("data", [lambda: prices(1.0), standardised])
def test_mae_and_r2_are_those_of_the_whole_split_in_its_own_units(
    side: Side, fit: Fit, data: Callable[[], Data]
) -> None:
    values = data()
    model = ("MLP", {"input_shape": [2], "classes": 2, "hidden": 8})
    options = {"loss": "mse", "monitor": "val/r2", "mode": "max", "batch_size": 8, "epochs": 4}
    tried = trainer(side, {"name": "Adam", "lr": 0.03}, model=model, data=data, **options)
    metrics, folder = fit(tried)
    with Run.open(folder.path) as run:
        outputs = tried.predict(tried.load_model(run), values.validation.inputs)
    targets = values.validation.targets.astype(np.float64)
    residual = ((targets - outputs) ** 2).sum(0)
    total = ((targets - targets.mean(0)) ** 2).sum(0)
    assert metrics["val/r2"] == pytest.approx((1 - residual / total).mean(), abs=1e-5)
    assert metrics["val/mae"] == pytest.approx(np.abs(targets - outputs).mean(), rel=1e-4)
    assert metrics["train/r2"] <= 1
    if values.standardises:
        assert metrics["val/r2"] > 0.3, "the large target is learned"
        record = json.loads((folder.path / "data.json").read_text())
        assert record["target_mean"] == pytest.approx(values.target_mean)


def test_r2_of_a_constant_target_is_that_of_scikit_learn(side: Side, fit: Fit) -> None:
    values = Split(blobs(90).inputs, np.full((90, 3), 2.5, np.float32))
    options = {"loss": "mse", "monitor": "val/r2", "mode": "max", "epochs": 1}
    metrics, _ = fit(trainer(side, data=lambda: Data(values, values), **options))
    assert metrics["val/r2"] == 0.0


# Parameter groups and frozen parameters


def numbers(side: Side, folder: RunDir) -> list[np.ndarray]:
    return side.weights(last(folder))


def test_frozen_parameters_and_their_statistics_stay_and_groups_go_on(
    side: Side, make_run: Callable[..., RunDir]
) -> None:
    """The first convolution with its batch norm is frozen; of the second, only the kernel."""
    straight, broken = make_run(name="0000"), make_run(name="0001")

    def attempt(folder: RunDir, seed: int, **end: int) -> dict[str, float]:
        importlib.import_module(side.module).setup(seed=seed)
        tried = trainer(
            side,
            {"name": "AdamW", "lr": 0.01},
            {"name": "StepLR", "step_size": 1, "gamma": 0.5},
            ("CNN", CNN),
            lambda: Data(Split(IMAGES, LABELS), Split(IMAGES[:20], LABELS[:20])),
            epochs=4,
            batch_size=16,
            accumulate=2,
            clip_norm=1.0,
            ema_decay=0.5,
            freeze=[side.first, side.second_kernel],
            param_groups={
                "slow": {"match": ".*bias", "lr": 1e-4, "weight_decay": 0.0},
                "fast": {"match": side.dense, "lr": 0.1},
            },
        )
        with Disturbed.open(folder.path) as run:
            vars(run).update(end)
            return tried.fit(run)

    expected = attempt(straight, 1)
    with contextlib.suppress(CrashError):
        attempt(broken, 1, crash_at=3)
    assert attempt(broken, 99) == expected
    for one, other in zip(side.arrays(last(broken)), side.arrays(last(straight)), strict=True):
        np.testing.assert_array_equal(one, other)
    first, final = (
        side.weights(folder) for folder in sorted(straight.checkpoints.glob("step-*"))[-2:]
    )
    same = [np.array_equal(one, other) for one, other in zip(first, final, strict=True)]
    assert same == side.frozen


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"freeze": ["backbone.*"]},
            r"freeze\[0\]: Received 'backbone\.\*', which matches no param",
        ),
        ({"freeze": [".*"]}, r"which freezes all 4 parameters of the model"),
        ({"param_groups": {"head": {"match": "head.*", "lr": 1}}}, r"param_groups\.head\.match"),
    ],
)
def test_a_pattern_without_a_parameter_is_refused(
    side: Side, fit: Fit, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        fit(trainer(side, **options))
