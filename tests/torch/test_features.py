"""What can be switched on in the PyTorch trainer: averages, callbacks, traces, debugging."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping

import numpy as np
import pytest
import torch
from torch import nn

from dlsweep.data import Data, Split
from dlsweep.folders.rundir import RunDir
from dlsweep.run.run import Run
from dlsweep.torch.models import MLP
from dlsweep.torch.trainer import TorchTrainer, setup
from dlsweep.trainers.callbacks import Callback
from dlsweep.trainers.early_stopping import EarlyStopping

pytestmark = pytest.mark.slow
SGD = functools.partial(torch.optim.SGD, lr=0.1)
POINTS = np.random.default_rng(0).normal(size=(60, 2)).astype(np.float32)
CLASSES = (POINTS[:, 0] > 0).astype(np.int64)

OTHERS = POINTS[::-1].copy() + 0.1, CLASSES[::-1].copy()


class Points(TorchTrainer):
    def __init__(self, *args, batch_size: int = 60, **kwargs) -> None:
        super().__init__(*args, batch_size=batch_size, **kwargs)

    def build_model(self, run: Run) -> nn.Module:
        return MLP([2], 2, hidden=4)

    def build_data(self, run: Run) -> object:
        return Data(Split(POINTS, CLASSES), Split(POINTS[:20], CLASSES[:20]))


class Recorder(Callback):
    """Notes what is called, and the model's first weight then."""

    def __init__(self) -> None:
        self.calls: list[tuple] = []

    def on_train_begin(self) -> None:
        self.calls.append(("train_begin", self.run.name))

    def on_epoch_begin(self, epoch: int) -> None:
        self.calls.append(("epoch_begin", epoch))

    def on_train_batch_begin(self, batch: int) -> None:
        self.calls.append(("batch_begin", batch))

    def on_train_batch_end(self, batch: int) -> None:
        self.calls.append(("batch_end", batch))

    def on_epoch_end(self, epoch: int, metrics: Mapping[str, float]) -> None:
        self.calls.append(("epoch_end", epoch, metrics["val/accuracy"]))

    def on_train_end(self, metrics: Mapping[str, float]) -> None:
        self.calls.append(("train_end", metrics["epoch"]))
        self.weights = {name: value.clone() for name, value in self.model.state_dict().items()}


class Counter(Callback):
    """Remembers how many epochs it saw, over all attempts."""

    def __init__(self, stop_at: int = 0) -> None:
        self.epochs, self.stop_at = 0, stop_at

    def on_epoch_end(self, epoch: int, metrics: Mapping[str, float]) -> None:
        self.epochs += 1
        if epoch == self.stop_at:
            self.run.stop()

    def state_dict(self) -> dict:
        return {"epochs": self.epochs}

    def load_state_dict(self, state: Mapping) -> None:
        self.epochs = state["epochs"]


def fit(folder: RunDir, trainer: TorchTrainer) -> dict[str, float]:
    setup(seed=0)
    with Run.open(folder.path) as run:
        return trainer.fit(run)


def saved(folder: RunDir, step: int) -> dict:
    found = folder.checkpoints / f"step-{step:08d}"
    parts = [torch.load(found / name, weights_only=True) for name in ("state.pt", "resume.pt")]
    return {**parts[0], **parts[1]}


def test_the_average_follows_each_step_and_is_what_is_measured_and_kept(
    make_run: Callable[..., RunDir],
) -> None:
    decay, steps = 0.5, []

    class Watched(Points):
        def training_step(self, model: nn.Module, batch):
            if model.training:
                steps.append({k: v.clone() for k, v in model.state_dict().items()})
            return super().training_step(model, batch)

    folder = make_run()
    metrics = fit(folder, Watched(SGD, epochs=2, batch_size=20, ema_decay=decay))
    state = saved(folder, 2)
    steps.append(state["trained"])
    average = steps[1]  # what the first step led to
    for weights in steps[2:]:
        average = {k: decay * average[k] + (1 - decay) * v for k, v in weights.items()}
    for name, value in average.items():
        torch.testing.assert_close(state["model"][name], value)
    model = MLP([2], 2, hidden=4)
    model.load_state_dict(state["model"])
    loss = nn.functional.cross_entropy(
        model(torch.from_numpy(POINTS[:20])), torch.from_numpy(CLASSES[:20])
    )
    (*_, (last, _)) = folder.records()
    assert last.metrics["val/loss"] == pytest.approx(loss.item(), rel=1e-5)
    assert metrics["val/accuracy"] >= last.metrics["val/accuracy"]


def test_callbacks_are_called_at_their_moments(make_run: Callable[..., RunDir]) -> None:
    recorder = Recorder()
    metrics = fit(make_run(), Points(SGD, epochs=2, batch_size=40, callbacks=[recorder]))
    names = [call[:2] for call in recorder.calls]
    assert names == [
        ("train_begin", "0000"),
        ("epoch_begin", 1),
        *[("batch_begin", 1), ("batch_end", 1), ("batch_begin", 2), ("batch_end", 2)],
        ("epoch_end", 1),
        ("epoch_begin", 2),
        *[("batch_begin", 3), ("batch_end", 3), ("batch_begin", 4), ("batch_end", 4)],
        ("epoch_end", 2),
        ("train_end", metrics["epoch"]),
    ]


@pytest.mark.parametrize("restore", [True, False])
def test_the_model_ends_with_the_best_weights_or_the_last(
    make_run: Callable[..., RunDir], restore: bool
) -> None:
    class PeaksInTheSecond(Points):
        accuracies = iter([0.1, 0.9, 0.5])

        def validation_step(self, model: nn.Module, batch):
            return {"loss": torch.tensor(1.0), "accuracy": torch.tensor(next(self.accuracies))}

    folder, recorder = make_run(), Recorder()
    stopping = EarlyStopping(restore_best_weights=restore)
    trainer = PeaksInTheSecond(SGD, epochs=3, early_stopping=stopping, callbacks=[recorder])
    assert fit(folder, trainer)["epoch"] == 2
    expected = saved(folder, 2 if restore else 3)["model"]
    assert all(torch.equal(value, expected[name]) for name, value in recorder.weights.items())
    assert not torch.equal(*(saved(folder, step)["model"]["layers.1.weight"] for step in (2, 3)))


@pytest.mark.parametrize("ema_decay", [None, 0.5])
def test_the_best_model_is_tested_at_the_very_end(
    make_run: Callable[..., RunDir], ema_decay: float | None
) -> None:
    class Tested(Points):
        def build_data(self, run: Run) -> object:
            return {**dict.fromkeys(("train", "validation"), (POINTS, CLASSES)), "test": OTHERS}

    folder, stopped = make_run(), make_run(name="0001")
    metrics = fit(folder, Tested(SGD, epochs=2, ema_decay=ema_decay))
    model = MLP([2], 2, hidden=4)
    model.load_state_dict(saved(folder, int(metrics["epoch"]))["model"])
    points, classes = map(torch.from_numpy, OTHERS)
    loss = nn.functional.cross_entropy(model(points), classes)
    assert metrics["test/loss"] == pytest.approx(loss.item(), rel=1e-5)
    (*_, (last, _)) = folder.records()
    assert last.metrics == {name: metrics[name] for name in ("test/loss", "test/accuracy")}
    interrupted = fit(stopped, Tested(SGD, epochs=2, callbacks=[Counter(stop_at=1)]))
    assert not any(name.startswith("test/") for name in interrupted)


def test_what_a_callback_remembers_goes_on_with_the_run(make_run: Callable[..., RunDir]) -> None:
    folder, counter = make_run(), Counter()
    fit(folder, Points(SGD, epochs=4, callbacks=[Counter(stop_at=2)]))
    fit(folder, Points(SGD, epochs=4, callbacks=[counter]))
    assert counter.epochs == 4


@pytest.mark.parametrize(("batches", "asked"), [(6, [2, 3]), (2, [2, 9])])
def test_the_batches_asked_for_are_traced(
    make_run: Callable[..., RunDir], batches: int, asked: list[int]
) -> None:
    folder = make_run()
    fit(folder, Points(SGD, epochs=1, batch_size=60 // batches, profiler=asked))
    trace = json.loads((folder.path / "profile" / "trace.json").read_text())
    names = [event.get("name") for event in trace["traceEvents"]]
    seen = min(asked[1], batches) - asked[0] + 1
    assert names.count("Optimizer.step#SGD.step") == seen
    assert "aten::addmm" in (folder.path / "profile" / "operations.txt").read_text()


@pytest.mark.parametrize("asked", [None, False, "off"])
def test_no_trace_is_written_unasked(make_run: Callable[..., RunDir], asked: object) -> None:
    folder = make_run()
    fit(folder, Points(SGD, epochs=1, profiler=asked))
    assert not (folder.path / "profile").exists()


@pytest.mark.parametrize("asked", [True, "on"])
def test_a_trace_of_no_batches_in_particular_has_eleven(
    make_run: Callable[..., RunDir], asked: object
) -> None:
    folder = make_run()
    fit(folder, Points(SGD, epochs=1, batch_size=2, profiler=asked))
    trace = json.loads((folder.path / "profile" / "trace.json").read_text())
    names = [event.get("name") for event in trace["traceEvents"]]
    assert names.count("Optimizer.step#SGD.step") == 11


def test_it_is_said_that_a_training_was_over_before_it_could_be_traced(
    make_run: Callable[..., RunDir], capsys: pytest.CaptureFixture[str]
) -> None:
    fit(make_run(), Points(SGD, epochs=2, batch_size=20, profiler="on"))
    assert "No trace: the training ended after batch 6, and 10 is the first" in (
        capsys.readouterr().out
    )


def test_one_batch_is_overfitted(make_run: Callable[..., RunDir]) -> None:
    seen = []

    class Watched(Points):
        def training_step(self, model: nn.Module, batch):
            seen.append(batch[0])
            return super().training_step(model, batch)

    metrics = fit(make_run(), Watched(SGD, epochs=60, batch_size=8, overfit_batch=True))
    assert all(torch.equal(inputs, seen[0]) for inputs in seen)
    assert seen[0].shape == (8, 2)
    assert metrics["val/accuracy"] == 1.0


def test_debug_names_the_operation_whose_gradient_is_nan() -> None:
    try:
        setup(seed=0, debug=True)
        weight = torch.zeros(1, requires_grad=True)
        with (
            pytest.warns(UserWarning, match="Traceback of forward call"),
            pytest.raises(RuntimeError, match=r"SqrtBackward0.*nan"),
        ):
            (torch.sqrt(weight) * 0).sum().backward()
    finally:
        setup(seed=0)
    assert not torch.is_anomaly_enabled()
