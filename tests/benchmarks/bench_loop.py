"""Times the shipped PyTorch loop against the same loop written by hand.

Both save a checkpoint after each epoch: the shipped one so that it survives a power cut and can be
checked, the other with a plain ``torch.save``.

Run it with ``python tests/benchmarks/bench_loop.py``; the ratio should stay under 1.05.
"""

from __future__ import annotations

import functools
import math
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from omegaconf import OmegaConf
from torch import nn

from dlsweep.data import Data, mnist
from dlsweep.models.torch import MLP
from dlsweep.run import Run
from dlsweep.rundir import RunDir, RunInfo
from dlsweep.trainers.torch import TorchTrainer, setup

EPOCHS, BATCH_SIZE, ROUNDS = 3, 128, 11
BAR = 1.05


def build_model() -> nn.Module:
    return MLP([1, 28, 28], 10, hidden=[256, 128], dropout=0.2)


class OurLoop(TorchTrainer):
    """The shipped trainer on data that both loops share."""

    data: Data

    def build_model(self, run: Run) -> nn.Module:
        return build_model()

    def build_data(self, run: Run) -> object:
        return self.data


def train_with_trainer(data: Data, folder: Path) -> float:
    trainer = OurLoop(functools.partial(torch.optim.Adam, lr=1e-3), None, EPOCHS, BATCH_SIZE)
    trainer.data = data
    info = RunInfo("0", "0", "bench", 0, ["val/accuracy"], ["maximize"], [], {}, {}, 0.0)
    run_dir = RunDir(folder / "run")
    run_dir.create(info, OmegaConf.to_yaml(OmegaConf.create({})))
    with Run.open(run_dir.path) as run:
        start = time.perf_counter()
        trainer.fit(run)
        return time.perf_counter() - start


def train_by_hand(data: Data, folder: Path) -> float:
    start = time.perf_counter()
    model = build_model()
    train_x = torch.from_numpy(data.normalise(data.train.inputs))
    train_y = torch.from_numpy(data.train.targets).long()
    val_x = torch.from_numpy(data.normalise(data.validation.inputs))
    val_y = torch.from_numpy(data.validation.targets).long()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for epoch in range(EPOCHS):
        model.train()
        train_loss, train_hits = torch.zeros(()), torch.zeros(())
        order = torch.randperm(len(train_x), generator=torch.Generator().manual_seed(epoch))
        for rows in order.split(BATCH_SIZE):
            x, y = train_x.index_select(0, rows), train_y.index_select(0, rows)
            outputs = model(x)
            loss = nn.functional.cross_entropy(outputs, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            train_loss += loss.detach() * len(y)
            train_hits += (outputs.argmax(1) == y).sum()
        model.eval()
        val_loss, val_hits = torch.zeros(()), torch.zeros(())
        with torch.no_grad():
            for x, y in zip(val_x.split(BATCH_SIZE), val_y.split(BATCH_SIZE), strict=True):
                outputs = model(x)
                val_loss += nn.functional.cross_entropy(outputs, y) * len(y)
                val_hits += (outputs.argmax(1) == y).sum()
        totals = [total.item() for total in (train_loss, train_hits, val_loss, val_hits)]
        assert all(map(math.isfinite, totals))
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
        torch.save(state, folder / "state.pt")
    return time.perf_counter() - start


def seconds(train: Callable[[Data, Path], float], data: Data) -> float:
    with tempfile.TemporaryDirectory() as folder:
        return train(data, Path(folder))


def main() -> None:
    setup(seed=0, threads=1)
    data = mnist()
    loops = [train_with_trainer, train_by_hand]
    times = {loop: [] for loop in loops}
    for number in range(ROUNDS + 1):
        for loop in loops if number % 2 else reversed(loops):
            times[loop].append(seconds(loop, data))
    ours, hand = (statistics.median(times[loop][1:]) for loop in loops)  # the first one warms up
    print(f"trainer  {ours:.3f} s   by hand  {hand:.3f} s")
    print(f"ratio    {ours / hand:.3f}   (bar {BAR})")


if __name__ == "__main__":
    main()
