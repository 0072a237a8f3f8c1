"""What the config names in tests of PyTorch."""

from __future__ import annotations

import os
import time

import numpy as np
import torch
from three_classes import points
from torch import nn
from torch.utils.data import Dataset, IterableDataset

from dlsweep.torch.trainer import TorchTrainer
from dlsweep.trainers.callbacks import Callback


class Points(Dataset):
    def __init__(self, count, seed):
        self.inputs, self.targets = points(count, seed)

    def __len__(self):
        return len(self.targets)

    def __getitem__(self, row):
        return torch.from_numpy(self.inputs[row]), int(self.targets[row])


def datasets():
    return {"train": Points(92, 0), "validation": Points(31, 1), "test": Points(17, 2)}


class Stream(IterableDataset):
    def __iter__(self):
        return iter([(torch.ones(2), 0)] * 26)


def streams():
    return {"train": Stream(), "validation": Stream()}


class Net(nn.Module):
    def __init__(self, dropout=0.0):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Dropout(dropout))
        self.head = nn.Linear(16, 3)

    def forward(self, inputs):
        return self.head(self.body(inputs))


def images():
    inputs = np.random.default_rng(0).normal(size=(44, 1, 8, 8)).astype(np.float32)
    targets = np.arange(44) % 4
    return {"train": (inputs, targets), "validation": (inputs, targets)}


class Halves(TorchTrainer):
    """A step that calls the model's parts, not the model."""

    def training_step(self, model, batch):
        inputs, targets = batch
        outputs = model.head(model.body(inputs))
        return {"loss": self.criterion(outputs, targets), "scale": outputs.abs().mean()}


class At(Callback):
    """What happens behind a batch, in one process or in all."""

    def __init__(self, batch, what, rank=None, seconds=0.0):
        self.batch, self.what, self.rank, self.seconds = batch, what, rank, seconds

    def on_train_batch_end(self, batch):
        time.sleep(self.seconds)
        if batch == self.batch and self.rank in (None, self.run.ranks.rank):
            getattr(self, self.what)()

    def on_train_begin(self):
        print("begun by", self.run.ranks.rank)

    def stop(self):
        self.run.stop("preempted")

    def fail(self):
        raise LookupError("of this rank alone")

    def spoil(self):
        with torch.no_grad():
            next(self.model.parameters()).fill_(torch.nan)

    def die(self):
        os.kill(os.getpid(), 9)
