"""The training state of PyTorch: what a checkpoint contains, and how to restore it."""

from __future__ import annotations

import collections
import itertools
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError  # torch.load raises it; nothing here is pickled
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from torch.optim.swa_utils import (
    AveragedModel,
    get_ema_avg_fn,
    get_ema_multi_avg_fn,
    get_swa_avg_fn,
)
from torch.utils.serialization import config as serialization

from dlsweep.errors import CheckpointError
from dlsweep.run.checkpoint import Checkpoint
from dlsweep.torch.parallel import ALONE, Alone
from dlsweep.trainers.callbacks import Callbacks
from dlsweep.trainers.epochs import State
from dlsweep.trainers.starting_points import kinds

STATE = "state.pt"
_UNREADABLE = (OSError, KeyError, ValueError, RuntimeError, UnpicklingError)


@dataclass
class TorchState(State):
    """The training state of PyTorch; with the progress, all that a resumed training needs.

    Attributes:
        device: The model's device.
        model: The model.
        optimizer: The optimizer.
        scheduler: The learning rate scheduler, if there is one.
        scaler: The loss scaler; it does nothing unless the precision is fp16.
        autocast: The precision of the forward pass.
        average: The average of the model's weights, if there is one.
        swa_start: The first epoch of an average over epochs; None for an average over steps.
        callbacks: The user's callbacks, with their state.
        parallel: The processes that train together.
        random: The state of every global random generator at the checkpoint that was restored.
    """

    device: torch.device
    model: nn.Module
    optimizer: Optimizer
    scheduler: LRScheduler | None
    scaler: torch.amp.GradScaler
    autocast: AbstractContextManager[Any]
    average: AveragedModel | None
    swa_start: int | None
    callbacks: Callbacks
    parallel: Alone
    random: Mapping[str, Any] | None = None
    _gathered: Mapping[str, Any] = field(default_factory=dict)
    unreadable = _UNREADABLE
    resume_file = "resume.pt"

    def __post_init__(self) -> None:
        self._built = [_options(group) for group in self.optimizer.param_groups]
        for group, built in zip(self.optimizer.param_groups, self._built, strict=True):
            group.setdefault("initial_lr", built["initial_lr"])  # as PyTorch's schedulers do

    @property
    def learning_rate(self) -> float:
        """The learning rate of the optimizer's first parameter group."""
        return float(self.optimizer.param_groups[0]["lr"])

    @property
    def kept(self) -> nn.Module:
        """The model to evaluate and save: the average, if there is one."""
        if self.average and (self.swa_start is None or self.average.n_averaged):
            averaged: nn.Module = self.average.module
            return averaged
        return self.model

    def step(self, clip_norm: float | None) -> None:
        """Steps the optimizer and updates the average.

        Args:
            clip_norm: The largest norm of all gradients together.
        """
        if clip_norm is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        if self.average and self.swa_start is None:
            self.average.update_parameters(self.model)

    def end_batches(self, epoch: int) -> None:
        """Updates an average over epochs, before the epoch is evaluated."""
        if self.average and self.swa_start is not None and epoch >= self.swa_start:
            self.average.update_parameters(self.model)

    def begin_epoch(self, epoch: int, done: int) -> None:
        """Does nothing: the global random states are those of the checkpoint."""

    def step_scheduler(self, monitored: float) -> None:
        """Steps the scheduler at an epoch's end."""
        if isinstance(self.scheduler, ReduceLROnPlateau):
            self.scheduler.step(monitored)
        elif self.scheduler:
            self.scheduler.step()

    def skip_done(self, steps: Iterator[Any], done: int) -> None:
        """Skips the finished steps of an epoch, and the random numbers that they have drawn."""
        if not done:
            return
        collections.deque(itertools.islice(steps, done), maxlen=0)
        if self.random:
            _restore_random_state(self.random, self.device)

    def _kinds(self) -> dict[str, str]:
        swa = {} if self.swa_start is None else {"average over": "epochs"}
        return {
            **kinds(optimizer=self.optimizer, scheduler=self.scheduler, average=self.average),
            **swa,
            "loss scaling": str(self.scaler.is_enabled()),
        }

    def gather(self) -> None:
        """Gathers the other processes' shards and random states."""
        states = {
            name: self.parallel.whole(part.state_dict()) for name, part in self._parts().items()
        }
        first, *others = self.parallel.gathered(_random_state(self.device))
        self._gathered = {**states, "random": first, "random_of_others": others}

    def take_hyperparameters(self) -> None:
        """Sets the options of all parameter groups, and from where the scheduler counts."""
        groups = self.optimizer.param_groups
        for group, built in zip(groups, self._built, strict=True):
            before, rate = group.get("initial_lr"), built["initial_lr"]
            now = group["lr"] * (rate / before) if before else rate
            group.update({**built, "lr": now})
        if self.scheduler:
            _count_from(self.scheduler, [built["initial_lr"] for built in self._built])

    def take_kept(self, checkpoint: Checkpoint) -> None:
        """Loads a checkpoint's weights into the model."""
        load_weights(self.model, checkpoint, self.parallel)

    def _write(self, folder: Path, shared: Mapping[str, Any]) -> None:
        state = {**shared, **self._gathered}
        if self.average:
            state["averaged"] = {"n_averaged": self.average.n_averaged}
        _save({"model": state.pop("model")}, folder / STATE)
        _save(state, folder / self.resume_file)

    def _read(self, folder: Path) -> dict[str, Any]:
        rest = folder / self.resume_file  # earlier versions have all in one file
        return {**_load(folder / STATE), **(_load(rest) if rest.exists() else {})}

    def _restore(self, saved: Mapping[str, Any]) -> None:
        if self.average:  # it decides what the model's weights are
            self.average.load_state_dict(saved["averaged"], strict=False)
        for name, part in self._parts().items():
            part.load_state_dict(self.parallel.parted(saved[name], part))
        known = [saved["random"], *saved.get("random_of_others", ())]
        self.random = dict(enumerate(known)).get(self.parallel.part.rank)
        if self.random:  # else this rank is new, with its own numbers
            _restore_random_state(self.random, self.device)

    def _saved_weights(self, folder: Path) -> Mapping[str, Any]:
        weights: Mapping[str, Any] = _load(folder / STATE)["model"]
        return weights

    def _weights(self) -> Mapping[str, Any]:
        return self.model.state_dict()

    def _set_weights(self, weights: Mapping[str, Any]) -> None:
        self.model.load_state_dict(self.parallel.parted(weights, self.model), strict=False)
        if self.average:
            self.average.module.load_state_dict(self.model.state_dict())

    def _parts(self) -> dict[str, Any]:
        parts = {"model": self.kept, "optimizer": self.optimizer, "scaler": self.scaler}
        if self.average:
            parts["trained"] = self.model
        if self.scheduler:
            parts["scheduler"] = self.scheduler
        return parts


def _options(group: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the options of a parameter group, with its initial learning rate."""
    options = {name: value for name, value in group.items() if name != "params"}
    return {"initial_lr": options["lr"], **options}


def _count_from(scheduler: Any, rates: Sequence[float]) -> None:
    """Sets the initial learning rates of a scheduler, and of those that it consists of."""
    if hasattr(scheduler, "base_lrs"):
        scheduler.base_lrs = list(rates)
    for part in getattr(scheduler, "_schedulers", ()):
        _count_from(part, rates)


def weight_average(
    model: nn.Module, ema_decay: float | None, swa_start: int | None, is_sharded: bool
) -> AveragedModel | None:
    """Returns an averaged copy of the model, including batch norm's statistics.

    Polyak and Juditsky, Acceleration of stochastic approximation by averaging, 1992; Izmailov et
    al., Averaging weights leads to wider optima and better generalization, 2018.

    Args:
        model: The model.
        ema_decay: The decay of an exponential average over steps.
        swa_start: The first epoch of a mean over epochs.
        is_sharded: Whether its parameters will be sharded, so that they need one update each.
    """
    if ema_decay is None:
        follow = get_swa_avg_fn()  # type: ignore[no-untyped-call]
        return None if swa_start is None else AveragedModel(model, avg_fn=follow, use_buffers=True)
    if is_sharded:
        follow = get_ema_avg_fn(ema_decay)  # type: ignore[no-untyped-call]
        return AveragedModel(model, avg_fn=follow, use_buffers=True)
    follow = get_ema_multi_avg_fn(ema_decay)  # type: ignore[no-untyped-call]
    return AveragedModel(model, multi_avg_fn=follow, use_buffers=True)


def load_weights(model: nn.Module, checkpoint: Checkpoint, parallel: Alone = ALONE) -> None:
    """Loads a checkpoint's weights into a model.

    Raises:
        CheckpointError: If they belong to another model.
    """
    try:
        model.load_state_dict(parallel.parted(_load(checkpoint.path / STATE)["model"], model))
    except _UNREADABLE as error:
        raise CheckpointError(f"{checkpoint.path} does not fit this model: {error}") from None


def _save(state: Mapping[str, Any], path: Path) -> None:
    with (
        path.open("wb") as file,  # so that a full disk is an OSError
        # The checkpoint has its own digests; without zip's CRC, saving takes half the time.
        serialization.patch("save.compute_crc32", False),  # type: ignore[attr-defined]
    ):
        torch.save(state, file)


def _load(path: Path) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def _random_state(device: torch.device) -> dict[str, Any]:
    """Returns the state of every global random generator, in types that load safely and fast."""
    version, words, gauss = random.getstate()
    kind, keys, *rest = np.random.get_state()
    return {
        "python": (version, torch.tensor(words), gauss),
        "numpy": (kind, torch.from_numpy(np.asarray(keys, np.int64)), *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
    }


def _restore_random_state(state: Mapping[str, Any], device: torch.device) -> None:
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words.tolist()), gauss))
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, keys.numpy(), *rest))
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)
