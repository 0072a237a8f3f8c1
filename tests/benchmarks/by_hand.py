"""What a careful person writes without dlsweep: plain PyTorch, plain Optuna, two processes."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from dlsweep.data import Data
from dlsweep.torch.models import MLP


def tensors(data: Data) -> list[torch.Tensor]:
    return [
        torch.from_numpy(data.normalise(data.train.inputs)),
        torch.from_numpy(data.train.targets).long(),
        torch.from_numpy(data.normalise(data.validation.inputs)),
        torch.from_numpy(data.validation.targets).long(),
    ]


def optimizer_of(model: nn.Module, name: str, lr: float, momentum: float) -> torch.optim.Optimizer:
    if name == "adam":
        return torch.optim.Adam(model.parameters(), lr=lr)
    return torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum)


def train(
    data: Data,
    epochs: int,
    batch_size: int = 128,
    hidden: int | list[int] = 128,
    dropout: float = 0.2,
    optimizer: str = "adam",
    lr: float = 1e-3,
    momentum: float = 0.0,
    seed: int = 0,
    report: Callable[[float, int], bool] = lambda value, step: False,
    folder: Path | None = None,
) -> float:
    """Trains an MLP, saving each epoch if there is a folder; returns the best accuracy."""
    torch.manual_seed(seed)
    train_x, train_y, val_x, val_y = tensors(data)
    model = MLP([1, 28, 28], 10, hidden=hidden, dropout=dropout)
    descent = optimizer_of(model, optimizer, lr, momentum)
    best = 0.0
    for epoch in range(1, epochs + 1):
        model.train()
        sums = torch.zeros(2)
        order = torch.randperm(len(train_x), generator=torch.Generator().manual_seed(epoch))
        for rows in order.split(batch_size):
            x, y = train_x.index_select(0, rows), train_y.index_select(0, rows)
            outputs = model(x)
            loss = nn.functional.cross_entropy(outputs, y)
            descent.zero_grad()
            loss.backward()
            descent.step()
            sums[0] += loss.detach() * len(y)
            sums[1] += (outputs.argmax(1) == y).sum()
        model.eval()
        hits = torch.zeros(())
        val_loss = torch.zeros(())
        with torch.no_grad():
            for x, y in zip(val_x.split(batch_size), val_y.split(batch_size), strict=True):
                outputs = model(x)
                val_loss += nn.functional.cross_entropy(outputs, y) * len(y)
                hits += (outputs.argmax(1) == y).sum()
        accuracy = hits.item() / len(val_y)
        assert math.isfinite(sums[0].item())
        best = max(best, accuracy)
        if folder:
            state = {"model": model.state_dict(), "optimizer": descent.state_dict()}
            torch.save(state, folder / "state.pt")
        if report(accuracy, epoch):
            break
    return best
