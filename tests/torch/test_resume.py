"""A run that was stopped, or that crashed, ends as if nothing had happened: to the last bit."""

from __future__ import annotations

import contextlib
import functools
import random
import time
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import Dataset

from dlsweep.data import Augmentation, Data, Loader, Split
from dlsweep.folders.rundir import RunDir
from dlsweep.run.run import Run
from dlsweep.torch.models import CNN
from dlsweep.torch.trainer import TorchTrainer, setup

pytestmark = pytest.mark.slow
EPOCHS = 5
IMAGES = np.random.default_rng(0).normal(size=(70, 1, 8, 8)).astype(np.float32)
LABELS = np.arange(70) % 4


class Jittered(Dataset):
    """Augments with the random numbers of all three libraries."""

    def __len__(self) -> int:
        return len(IMAGES)

    def __getitem__(self, index: int):
        noise = torch.rand(1) + random.random() + np.random.rand()
        return torch.from_numpy(IMAGES[index]) + noise.float(), int(LABELS[index])


class CrashError(Exception):
    pass


class Trained(TorchTrainer):
    """Dropout, batch norm, momentum, a schedule, clipping, accumulation and an average, all on."""

    def __init__(
        self,
        data: object,
        before_batch: Callable[[int, Run], None] | None = None,
        workers: int = 0,
    ):
        super().__init__(
            functools.partial(torch.optim.SGD, lr=0.05, momentum=0.9),
            functools.partial(torch.optim.lr_scheduler.StepLR, step_size=3, gamma=0.5),
            epochs=EPOCHS,
            batch_size=16,
            loader=Loader(workers=workers),
            accumulate=2,
            clip_norm=1.0,
            ema_decay=0.9,
        )
        self.data, self.before_batch, self.batches = data, before_batch, 0

    def build_model(self, run: Run) -> nn.Module:
        self.run = run
        return CNN([1, 8, 8], 4, channels=[4, 8], hidden=16, dropout=0.5)

    def build_data(self, run: Run) -> object:
        return self.data

    def training_step(self, model: nn.Module, batch):
        if model.training and self.before_batch:
            self.batches += 1
            self.before_batch(self.batches, self.run)
        return super().training_step(model, batch)


def arrays() -> object:
    augmentation = Augmentation(horizontal_flip=0.5, shift=0.2)
    train, validation = Split(IMAGES, LABELS), Split(IMAGES[:20], LABELS[:20])
    return Data(train, validation, augmentation=augmentation)


def dataset() -> object:
    return {"train": Jittered(), "validation": Jittered()}


def stop(batch: int, run: Run) -> None:
    if batch == 8:  # of five an epoch: in the middle of the second
        run.stop()


def stop_soon(batch: int, run: Run) -> None:
    if batch == 8:
        run.stop()
        time.sleep(0.15)  # longer than a training goes on without looking


def crash(batch: int, run: Run) -> None:
    if batch == 13:  # in the middle of the third
        raise CrashError


def attempt(folder: RunDir, seed: int, trainer: Trained) -> dict[str, float]:
    setup(seed)
    with Run.open(folder.path) as run:
        return trainer.fit(run)


def state(folder: RunDir) -> dict:
    found = folder.checkpoints / f"step-{EPOCHS:08d}"
    parts = [torch.load(found / name, weights_only=True) for name in ("state.pt", "resume.pt")]
    return {**parts[0], **parts[1]}


def assert_same(one: object, other: object) -> None:
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key, value in one.items():
            assert_same(value, other[key])
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for value, another in zip(one, other, strict=True):
            assert_same(value, another)
    else:
        assert one == other


@pytest.mark.parametrize("data", [arrays, dataset])
@pytest.mark.parametrize("break_off", [stop, crash])
def test_a_resumed_run_ends_as_an_undisturbed_one(make_run, data, break_off):
    straight, broken = make_run(name="0000"), make_run(name="0001")
    expected = attempt(straight, 1, Trained(data()))

    with contextlib.suppress(CrashError):
        attempt(broken, 1, Trained(data(), break_off))
    assert 0 < len(list(broken.records())) < EPOCHS
    received = attempt(broken, 99, Trained(data()))

    assert received == expected
    assert_same(state(broken), state(straight))
    metrics = [[record.metrics for record, _ in folder.records()] for folder in (broken, straight)]
    assert metrics[0] == metrics[1]
    assert len(metrics[0]) == EPOCHS


def test_workers_read_the_same_and_a_run_can_go_on_with_others(make_run):
    straight, broken = make_run(name="0000"), make_run(name="0001")
    expected = attempt(straight, 1, Trained(dataset()))
    attempt(broken, 1, Trained(dataset(), stop, workers=2))
    assert 0 < len(list(broken.records())) < EPOCHS
    assert attempt(broken, 99, Trained(dataset(), workers=1)) == expected
    assert_same(state(broken), state(straight))


@pytest.mark.parametrize("data", [arrays, dataset])
@pytest.mark.parametrize(("break_off", "steps"), [(stop_soon, None), (crash, 1)])
def test_it_is_so_in_the_middle_of_an_epoch_too(make_run, data, break_off, steps):
    straight, broken = make_run(name="0000"), make_run(name="0001")
    expected = attempt(straight, 1, Trained(data()))

    interrupted = Trained(data(), break_off)
    interrupted.checkpoint_steps = steps
    with contextlib.suppress(CrashError):
        attempt(broken, 1, interrupted)
    found = Run.open(broken.path)
    with found:
        part = found.checkpoints.latest().path.name
    assert "." in part, "saved in the middle of an epoch"
    again = Trained(data())
    assert attempt(broken, 99, again) == expected
    assert interrupted.batches + again.batches <= 5 * EPOCHS + 2, "a step was repeated, no more"
    assert_same(state(broken), state(straight))
    metrics = [[record.metrics for record, _ in folder.records()] for folder in (broken, straight)]
    assert metrics[0] == metrics[1]


def test_another_seed_gives_another_run(make_run):
    one, other = make_run(name="0000"), make_run(name="0001")
    attempt(one, 1, Trained(arrays()))
    attempt(other, 2, Trained(arrays()))
    with pytest.raises(AssertionError):
        assert_same(state(one)["model"], state(other)["model"])
