"""Times how long a training step waits for its data.

The data has Fashion-MNIST's size (60,000 images of 28 by 28, the pixels are random) and is
augmented; the shipped CNN trains on it with the shipped settings. Waiting is the time spent in the
batches' iterator.

Run it with ``python tests/benchmarks/bench_input.py``; the share should stay under 5%.
"""

from __future__ import annotations

import statistics
import time

import numpy as np
import torch
from torch import nn

from dlsweep.data import Augmentation, Data, Split
from dlsweep.torch.batches import prepare
from dlsweep.torch.models import CNN
from dlsweep.torch.trainer import setup

EXAMPLES, BATCH_SIZE, STEPS, ROUNDS = 60_000, 128, 100, 3
BAR = 0.05


def fashion_sized() -> Data:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (EXAMPLES, 1, 28, 28), dtype=np.uint8)
    split = Split(images, random.integers(0, 10, EXAMPLES))
    few = Split(images[:BATCH_SIZE], split.targets[:BATCH_SIZE])
    augmentation = Augmentation(horizontal_flip=0.5, shift=0.1)
    return Data(split, few, mean=0.286, std=0.353, augmentation=augmentation)


def share_waited(device: torch.device, batches, model: nn.Module, epoch: int) -> float:
    """The share of some steps, the start of an epoch included, that is spent on data."""

    def now() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    optimizer = torch.optim.Adam(model.parameters())
    waited, start = 0.0, now()
    stream = batches.epoch(epoch)
    for _ in range(STEPS):
        asked = now()
        inputs, targets = next(stream)
        waited += now() - asked
        nn.functional.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
        optimizer.zero_grad()
    return waited / (now() - start)


def main() -> None:
    setup(seed=0, threads=1)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = CNN([1, 28, 28], 10, channels=[32, 64], dropout=0.25).to(device)
    batches = prepare(fashion_sized(), BATCH_SIZE, 0, device).train
    shares = [share_waited(device, batches, model, epoch) for epoch in range(1, ROUNDS + 1)]
    print(f"waiting for data  {statistics.median(shares):.1%} of a step's time   (bar {BAR:.0%})")


if __name__ == "__main__":
    main()
