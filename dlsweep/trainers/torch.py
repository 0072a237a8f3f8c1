"""Training with PyTorch: a textbook loop that can be stopped and goes on to the bit.

To change what is learned, subclass :class:`TorchTrainer` and override ``training_step`` (and, if
validation differs, ``validation_step``), ``build_model`` or ``build_data``; then name the class in
the config as ``training._target_``.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from dlsweep.data.loader import Loader
from dlsweep.data.torch import Batches, prepare, size_of
from dlsweep.errors import ConfigError, DataError, Diverged
from dlsweep.run import Run
from dlsweep.rundir import write_atomically
from dlsweep.trainers.base import Trainer
from dlsweep.trainers.callbacks import Callback, Callbacks
from dlsweep.trainers.config import (
    built,
    check_least,
    check_one_of,
    checked_callbacks,
    fit_model_to_data,
)
from dlsweep.trainers.early_stopping import EarlyStopping, Mode, Progress
from dlsweep.trainers.saving import MidEpoch
from dlsweep.trainers.torch_profiler import Profiler
from dlsweep.trainers.torch_state import State, load_weights, moving_average

Loss = Callable[[Tensor, Tensor], Tensor]
Measures = Mapping[str, Tensor]

_LOADER = Loader()
_NO_EARLY_STOPPING = EarlyStopping()
_DTYPES = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
#: After how many batches their measures are read; on a GPU, reading waits for them.
_READ_EVERY = 50


def setup(
    seed: int, deterministic: bool = False, threads: int | None = None, debug: bool = False
) -> None:
    """Prepares a trial's process, before anything is built in it.

    Args:
        seed: Of Python's, NumPy's and PyTorch's random numbers.
        deterministic: Whether to use only kernels that give the same bits twice; an operation
            that has none raises an error.
        threads: How many CPU threads an operation may use; None leaves that to PyTorch.
        debug: Whether a gradient that is NaN is an error, which names the operation it came from.

    Raises:
        ConfigError: If the seed is not one that all three take.
    """
    if not 0 <= seed < 2**32:
        raise ConfigError(f"seed: Received {seed}. Expected a whole number from 0 to 2**32 - 1.")
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    if threads is not None:
        torch.set_num_threads(threads)
    if deterministic:
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # read when CUDA starts
        torch.use_deterministic_algorithms(True)
    torch.autograd.set_detect_anomaly(debug)


class TorchTrainer(Trainer):
    """Trains the config's model on the config's data.

    Args:
        optimizer: Makes the optimizer from the model's parameters.
        scheduler: Makes the learning rate's schedule, which takes a step at each epoch's end.
        epochs: Passes over the training data.
        batch_size: Examples of a batch.
        loader: How a Dataset is read; data in memory lies on the device as a whole.
        loss: Of (outputs, targets), averaged over the batch. With ``cross_entropy``, the accuracy
            is measured as well.
        device: ``auto`` takes a GPU if there is one.
        precision: Of the forward pass; ``fp16`` comes with loss scaling.
        accumulate: Batches whose gradients make one step; as if they were one batch.
        clip_norm: The largest norm of all gradients together.
        ema_decay: Of an exponential moving average of the weights, which follows each step; it is
            what is evaluated and kept, in place of the weights themselves.
        monitor: The metric that tells which epoch is best.
        mode: Whether more (``max``) or less (``min``) of it is better.
        early_stopping: When to give up.
        callbacks: A user's own, called at the moments of the training.
        profiler: The first and the last batch to trace; see
            :class:`dlsweep.trainers.torch_profiler.Profiler`.
        overfit_batch: Whether to train on one batch alone, and to validate on it as well: a model
            that cannot learn it has an error.
        checkpoint_every: Epochs between checkpoints; a new best and the last are saved anyway.
        checkpoint_steps: Optimizer steps between checkpoints in the middle of an epoch.
        checkpoint_seconds: Seconds between them, instead or as well.
        seed: Of the order of the training examples.

    Raises:
        ConfigError: If an argument is out of its range.
    """

    def __init__(
        self,
        optimizer: Callable[[Iterator[nn.Parameter]], Optimizer],
        scheduler: Callable[[Optimizer], LRScheduler] | None = None,
        epochs: int = 5,
        batch_size: int = 128,
        loader: Loader = _LOADER,
        loss: Literal["cross_entropy", "mse"] | Loss = "cross_entropy",
        device: Literal["auto", "cpu", "gpu"] = "auto",
        precision: Literal["fp32", "bf16", "fp16"] = "fp32",
        accumulate: int = 1,
        clip_norm: float | None = None,
        ema_decay: float | None = None,
        monitor: str = "val/accuracy",
        mode: Mode = "max",
        early_stopping: EarlyStopping = _NO_EARLY_STOPPING,
        callbacks: Sequence[Callback] = (),
        profiler: Sequence[int] | None = None,
        overfit_batch: bool = False,
        checkpoint_every: int = 1,
        checkpoint_steps: int | None = None,
        checkpoint_seconds: float | None = None,
        seed: int = 0,
    ) -> None:
        check_one_of("device", device, ("auto", "cpu", "gpu"))
        check_one_of("precision", precision, tuple(_DTYPES))
        check_one_of("mode", mode, ("min", "max"))
        check_least("epochs", epochs, 1)
        check_least("batch_size", batch_size, 1)
        check_least("accumulate", accumulate, 1)
        check_least("checkpoint_every", checkpoint_every, 1)
        check_least("checkpoint_steps", checkpoint_steps or 1, 1)
        check_least("seed", seed, 0)
        if clip_norm is not None and not 0 < clip_norm < math.inf:
            raise ConfigError(f"training.clip_norm: Received {clip_norm}. Expected more than 0.")
        if ema_decay is not None and not 0 < ema_decay < 1:
            raise ConfigError(
                f"training.ema_decay: Received {ema_decay}. Expected between 0 and 1, as 0.999."
            )
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.epochs = epochs
        self.batch_size = batch_size
        self.loader = loader
        self.loss = _named_loss(loss)
        self.device = device
        self.precision = precision
        self.accumulate = accumulate
        self.clip_norm = clip_norm
        self.ema_decay = ema_decay
        self.monitor = monitor
        self.mode: Mode = mode
        self.early_stopping = early_stopping
        self.callbacks = checked_callbacks(callbacks, Callback)
        if profiler is not None:
            self.callbacks.append(Profiler(*profiler))
        self.overfit_batch = overfit_batch
        self.checkpoint_every = checkpoint_every
        self.checkpoint_steps = checkpoint_steps
        self.checkpoint_seconds = checkpoint_seconds
        self.seed = seed

    def build_model(self, run: Run) -> nn.Module:
        """The model to train; by default what ``model`` in the config names."""
        return built(run, "model", nn.Module)

    def build_data(self, run: Run) -> object:
        """The data; by default what ``data`` in the config names.

        Returns:
            What :func:`dlsweep.data.torch.prepare` takes.
        """
        return built(run, "data", object)

    def load_model(self, run: Run) -> nn.Module:
        """The trained model of a run on the CPU, in evaluation mode, with its best weights."""
        model = self.build_model(run)
        load_weights(model, run.checkpoints.need_best())
        return model.eval()

    def training_step(self, model: nn.Module, batch: Any) -> Measures:
        """Measures the model on a batch.

        Args:
            model: In training mode.
            batch: What the data yields, on the device; by default a pair (inputs, targets).

        Returns:
            Scalars by name, each a mean over the batch: ``loss``, which is minimised, and what
            else is worth knowing. Their means over an epoch are logged as ``train/<name>``.
        """
        inputs, targets = batch
        outputs = model(inputs)
        try:
            measures = {"loss": self.loss(outputs, targets)}
        except IndexError as error:  # by cross entropy
            raise DataError(f"targets: {error} The model has {outputs.shape[1]} classes.") from None
        if self.loss is functional.cross_entropy:
            measures["accuracy"] = (outputs.argmax(1) == targets).double().mean()
        return measures

    def validation_step(self, model: nn.Module, batch: Any) -> Measures:
        """Measures the model, in evaluation mode, on a batch.

        Logged as ``val/<name>``, and at the very end on the test data as ``test/<name>``.
        """
        return self.training_step(model, batch)

    def fit(self, run: Run) -> dict[str, float]:
        """Trains, from the latest checkpoint if there is one, and saves as it goes.

        Returns:
            The metrics of the best epoch; with test data, also how the model that is in memory at
            the end, see :class:`EarlyStopping`, does on that.

        Raises:
            ConfigError: If the config cannot work on this machine, or with this data.
            DataError: If the data cannot be used.
            CheckpointError: If the checkpoint is not one of this model and optimizer.
            Diverged: If a loss or the monitored metric becomes NaN or infinite.
        """
        device = self._device()
        if isinstance(self.loss, nn.Module):
            self.loss.to(device)
        found = self.build_data(run)
        fit_model_to_data(run.config, found)
        model = self.build_model(run).to(device)
        data = prepare(found, self.batch_size, self.seed, device, self.loader)
        if self.overfit_batch:
            data = data.one_batch()
        write_atomically(run.dir.path / "data.json", json.dumps(data.record, indent=1))
        state = self._start(model, device)
        if checkpoint := run.checkpoints.latest():
            state.restore(checkpoint)

        state.callbacks.begin(run, model)
        mid_epoch = MidEpoch(run, self.checkpoint_steps, self.checkpoint_seconds)
        saved = True
        while not (self._is_over(state.progress) or run.should_stop):
            epoch = state.progress.epoch + 1
            metrics = {"epoch": float(epoch), "lr": state.learning_rate}
            means = _Means("train", state.progress)
            for step in self._train(state, means, data.train, epoch):
                if mid_epoch.is_due(step):
                    means.keep(state.progress)
                    state.save(run, {})
                    if run.should_stop:
                        return self._finish(run, state, data.test)
            metrics |= means.read()
            metrics |= self._measure(state.kept, state, data.validation, "val")
            run.log(metrics, step=epoch)
            is_best = self._end_epoch(state, metrics)
            saved = is_best or epoch % self.checkpoint_every == 0
            if saved:
                state.save(run, metrics)
        if not saved:
            state.save(run, metrics)
        return self._finish(run, state, data.test)

    def _train(self, state: State, means: _Means, batches: Batches, epoch: int) -> Iterator[int]:
        """Trains on what is left of an epoch; yields how many steps of it are done after each."""
        if not state.progress.steps:
            state.callbacks.on_epoch_begin(epoch)
        state.model.train()
        groups = _groups(batches.epoch(epoch), self.accumulate)
        state.skip_done(groups)
        for group in groups:
            sizes = [size_of(batch) for batch in group]
            for position, batch in enumerate(group, 1):
                state.progress.batches += 1
                state.callbacks.on_train_batch_begin(state.progress.batches)
                with state.autocast:
                    measures = _checked(self.training_step(state.model, batch))
                loss = measures["loss"]
                if len(group) > 1:
                    loss = loss * (sizes[position - 1] / sum(sizes))
                state.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
                means.add(measures, sizes[position - 1], state.progress.batches)
                if position == len(group):
                    state.step(self.clip_norm)
                state.callbacks.on_train_batch_end(state.progress.batches)
            state.progress.steps += 1
            yield state.progress.steps

    def _measure(
        self, model: nn.Module, state: State, batches: Batches, part: str
    ) -> dict[str, float]:
        means = _Means(part)
        model.eval()
        with torch.no_grad():
            for batch in batches.epoch(state.progress.epoch + 1):
                with state.autocast:
                    measures = _checked(self.validation_step(model, batch))
                means.add(measures, size_of(batch), state.progress.batches)
        return means.read()

    def _finish(self, run: Run, state: State, test: Batches | None) -> dict[str, float]:
        """Has the model end as asked, and tests it unless the run goes on another time."""
        metrics = state.progress.best
        if run.stop_reason is None:
            best = run.checkpoints.best()
            last = state.kept
            if best and self.early_stopping.restore_best_weights:
                state.restore_weights(best)
                last = state.model
            if test:
                tested = self._measure(last, state, test, "test")
                run.log(tested, step=state.progress.epoch)
                metrics = {**metrics, **tested}
            if state.progress.waited >= (self.early_stopping.patience or math.inf):
                run.stop("stopped_early")
        state.callbacks.on_train_end(metrics)
        return metrics

    def _end_epoch(self, state: State, metrics: Mapping[str, float]) -> bool:
        """Takes the scheduler's step, notes the epoch; returns whether it is the best."""
        if self.monitor not in metrics:
            raise ConfigError(
                f"training.monitor: Received {self.monitor!r}, which is not measured.\n"
                f"Expected one of {', '.join(sorted(metrics))}.\n"
                "Type, for instance,  training.monitor=val/loss training.mode=min"
            )
        if not math.isfinite(metrics[self.monitor]):
            raise Diverged(self.monitor, metrics[self.monitor], state.progress.batches)
        if isinstance(state.scheduler, ReduceLROnPlateau):
            state.scheduler.step(metrics[self.monitor])
        elif state.scheduler:
            state.scheduler.step()
        is_best = state.progress.end_epoch(
            metrics, self.monitor, self.mode, self.early_stopping.min_delta
        )
        state.callbacks.on_epoch_end(state.progress.epoch, metrics)
        return is_best

    def _is_over(self, progress: Progress) -> bool:
        patience = self.early_stopping.patience
        return progress.epoch >= self.epochs or progress.waited >= (patience or math.inf)

    def _device(self) -> torch.device:
        has_gpu = use_gpu(self.device != "cpu")
        if self.device == "gpu" and not has_gpu:
            raise ConfigError(
                "training.device: Received 'gpu', and PyTorch sees none here.\n"
                "Expected 'cpu' or 'auto'. Type  training.device=auto"
            )
        if self.precision == "fp16" and not has_gpu:
            raise ConfigError(
                "training.precision: Received 'fp16' on a CPU, where it is slow and loses small "
                "gradients.\nExpected 'fp32' or 'bf16'. Type  training.precision=bf16"
            )
        return torch.device("cuda" if has_gpu else "cpu")

    def _start(self, model: nn.Module, device: torch.device) -> State:
        optimizer = self.optimizer(model.parameters())
        scheduler = self.scheduler(optimizer) if self.scheduler else None
        if isinstance(scheduler, ReduceLROnPlateau) and scheduler.mode != self.mode:
            raise ConfigError(
                f"training.scheduler.mode: Received {scheduler.mode!r}. Expected {self.mode!r}, "
                f"as training.mode says, since it follows {self.monitor}."
            )
        dtype = _DTYPES[self.precision]
        return State(
            device=device,
            model=model,
            optimizer=optimizer,
            scheduler=scheduler,
            scaler=torch.amp.GradScaler(device.type, enabled=self.precision == "fp16"),
            autocast=torch.autocast(device.type, dtype) if dtype else nullcontext(),
            average=moving_average(model, self.ema_decay) if self.ema_decay else None,
            callbacks=Callbacks(self.callbacks),
        )


class _Means:
    """The means of measures over an epoch, each batch weighted by its size."""

    def __init__(self, part: str, begun: Progress | None = None) -> None:
        self._part = part
        self._pending: list[tuple[dict[str, Tensor], int, int]] = []
        self._sums = dict(begun.sums) if begun else {}
        self._examples = begun.examples if begun else 0

    def add(self, measures: Measures, size: int, step: int) -> None:
        detached = {name: value.detach() for name, value in measures.items()}
        self._pending.append((detached, size, step))
        if len(self._pending) == _READ_EVERY:
            self._collect()

    def keep(self, progress: Progress) -> None:
        """Notes down how far they are."""
        self._collect()
        progress.sums, progress.examples = dict(self._sums), self._examples

    def read(self) -> dict[str, float]:
        self._collect()
        if not self._examples:
            raise DataError(f"data: Received no batch to measure {self._part}/loss on.")
        return {f"{self._part}/{name}": sum_ / self._examples for name, sum_ in self._sums.items()}

    def _collect(self) -> None:
        for name in self._pending[0][0] if self._pending else ():
            values = torch.stack([measures[name] for measures, _, _ in self._pending]).tolist()
            for value, (_, size, step) in zip(values, self._pending, strict=True):
                if name == "loss" and not math.isfinite(value):
                    raise Diverged(f"{self._part}/loss", value, step)
                self._sums[name] = self._sums.get(name, 0.0) + value * size
        self._examples += sum(size for _, size, _ in self._pending)
        self._pending.clear()


def _groups(batches: Iterator[Any], size: int) -> Iterator[list[Any]]:
    while group := list(itertools.islice(batches, size)):
        yield group


def _checked(measures: object) -> Measures:
    if isinstance(measures, Mapping) and "loss" in measures:
        return measures
    raise ConfigError(
        f"training_step: Received {type(measures).__qualname__} from it. "
        "Expected a dict of scalar tensors with 'loss' among them."
    )


def _named_loss(loss: str | Loss) -> Loss:
    if callable(loss):
        return loss
    check_one_of("loss", loss, ("cross_entropy", "mse"))
    return functional.cross_entropy if loss == "cross_entropy" else _mean_squared_error


def _mean_squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    if outputs.shape != targets.shape:
        raise DataError(
            f"training.loss: Received outputs of shape {list(outputs.shape)} and targets of shape "
            f"{list(targets.shape)}. Expected equal shapes for 'mse'."
        )
    return functional.mse_loss(outputs, targets)


def use_gpu(wanted: bool) -> bool:
    """Whether there is a GPU to use."""
    return wanted and torch.cuda.is_available()


def profiler(folder: Path, first: int, last: int) -> Callback:  # noqa: ARG001 - Keras's TensorFlow needs it
    """Traces batches; see :class:`Profiler`."""
    return Profiler(first, last)
