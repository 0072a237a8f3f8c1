"""Times the shipped PyTorch loop against the same loop written by hand.

Both save a checkpoint after each epoch: the shipped one so that it survives a power cut and can be
checked, the other with a plain ``torch.save``.

Run it with ``python tests/benchmarks/bench_loop.py``; the ratio should stay under 1.05.
"""

from __future__ import annotations

import functools
from pathlib import Path

import by_hand
import torch
from side_by_side import compare, fit
from torch import nn

from dlsweep.data import Data
from dlsweep.run.run import Run
from dlsweep.torch.models import MLP
from dlsweep.torch.trainer import TorchTrainer, setup

EPOCHS, BATCH_SIZE, ROUNDS, HIDDEN = 10, 128, 7, [256, 128]
BAR = 1.05


class OurLoop(TorchTrainer):
    """The shipped trainer on data that both loops share."""

    data: Data

    def build_model(self, run: Run) -> nn.Module:
        return MLP([1, 28, 28], 10, hidden=HIDDEN, dropout=0.2)

    def build_data(self, run: Run) -> object:
        return self.data


def train_with_trainer(data: Data, folder: Path) -> None:
    trainer = OurLoop(functools.partial(torch.optim.Adam, lr=1e-3), None, EPOCHS, BATCH_SIZE)
    trainer.data = data
    fit(trainer, folder)


def train_by_hand(data: Data, folder: Path) -> None:
    by_hand.train(data, EPOCHS, BATCH_SIZE, HIDDEN, folder=folder)


if __name__ == "__main__":
    setup(seed=0, threads=1)
    compare(train_with_trainer, train_by_hand, ROUNDS, BAR)
