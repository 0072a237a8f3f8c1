"""What trainers of every framework share: their arguments, and how an epoch ends.

A trainer's loop reads ``for epoch in epochs: …; epochs.end(metrics)``; one whose framework has a
loop of its own calls :meth:`Epochs.begin` and :meth:`Epochs.end` from there.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, TypeVar

from dlsweep.data.loader import Loader
from dlsweep.errors import ConfigError, Diverged
from dlsweep.run import Run
from dlsweep.trainers.base import Trainer
from dlsweep.trainers.callbacks import Callback, Callbacks
from dlsweep.trainers.config import check_least, check_one_of, checked_callbacks
from dlsweep.trainers.early_stopping import EarlyStopping, Mode, Progress

_LOADER = Loader()
_NO_EARLY_STOPPING = EarlyStopping()


class EpochTrainer(Trainer):
    """A trainer that passes over the data in epochs.

    Attributes:
        callback_kinds: What callbacks may be.

    Args:
        optimizer: Makes the optimizer.
        scheduler: Makes the learning rate's schedule, which takes a step at each epoch's end.
        epochs: Passes over the training data.
        batch_size: Examples of a batch.
        loader: How data is read that does not lie in memory.
        loss: Of the outputs and the targets, averaged over the batch. With ``cross_entropy``, the
            accuracy is measured as well.
        device: ``auto`` takes a GPU if there is one.
        precision: Of the forward pass; ``fp16`` comes with loss scaling.
        accumulate: Batches whose gradients make one step.
        clip_norm: The largest norm of all gradients together.
        ema_decay: Of an exponential moving average of the weights, which follows each step; it is
            what is evaluated and kept, in place of the weights themselves.
        monitor: The metric that tells which epoch is best.
        mode: Whether more (``max``) or less (``min``) of it is better.
        early_stopping: When to give up.
        callbacks: A user's own, called at the moments of the training.
        profiler: The first and the last batch to trace, counted from 1 and on through all epochs.
        overfit_batch: Whether to train on one batch alone, and to validate on it as well: a model
            that cannot learn it has an error.
        checkpoint_every: Epochs between checkpoints; a new best and the last are saved anyway.
        checkpoint_steps: Must be None: in the middle of an epoch, only PyTorch saves.
        checkpoint_seconds: As ``checkpoint_steps``.
        seed: Of the order of the training examples.

    Raises:
        ConfigError: If an argument is out of its range.
    """

    callback_kinds: ClassVar[tuple[type, ...]] = (Callback,)

    def __init__(
        self,
        optimizer: Callable[..., Any],
        scheduler: Callable[..., Any] | None = None,
        epochs: int = 5,
        batch_size: int = 128,
        loader: Loader = _LOADER,
        loss: Literal["cross_entropy", "mse"] | Callable[..., Any] = "cross_entropy",
        device: Literal["auto", "cpu", "gpu"] = "auto",
        precision: Literal["fp32", "bf16", "fp16"] = "fp32",
        accumulate: int = 1,
        clip_norm: float | None = None,
        ema_decay: float | None = None,
        monitor: str = "val/accuracy",
        mode: Mode = "max",
        early_stopping: EarlyStopping = _NO_EARLY_STOPPING,
        callbacks: Sequence[Any] = (),
        profiler: Sequence[int] | None = None,
        overfit_batch: bool = False,
        checkpoint_every: int = 1,
        checkpoint_steps: int | None = None,
        checkpoint_seconds: float | None = None,
        seed: int = 0,
    ) -> None:
        check_one_of("device", device, ("auto", "cpu", "gpu"))
        check_one_of("precision", precision, ("fp32", "bf16", "fp16"))
        check_one_of("mode", mode, ("min", "max"))
        check_least("epochs", epochs, 1)
        check_least("batch_size", batch_size, 1)
        check_least("accumulate", accumulate, 1)
        check_least("checkpoint_every", checkpoint_every, 1)
        if checkpoint_steps is not None or checkpoint_seconds is not None:
            raise ConfigError(
                "training: Received checkpoint_steps or checkpoint_seconds. Keras saves at the end "
                "of an epoch.\nExpected null for both. Type, for instance,  "
                "training.checkpoint_every=1"
            )
        check_least("seed", seed, 0)
        if clip_norm is not None and not 0 < clip_norm < math.inf:
            raise ConfigError(f"training.clip_norm: Received {clip_norm}. Expected more than 0.")
        if ema_decay is not None and not 0 < ema_decay < 1:
            raise ConfigError(
                f"training.ema_decay: Received {ema_decay}. Expected between 0 and 1, as 0.999."
            )
        if not callable(loss):
            check_one_of("loss", loss, ("cross_entropy", "mse"))
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.epochs = epochs
        self.batch_size = batch_size
        self.loader = loader
        self.loss = loss
        self.device = device
        self.precision = precision
        self.accumulate = accumulate
        self.clip_norm = clip_norm
        self.ema_decay = ema_decay
        self.monitor = monitor
        self.mode: Mode = mode
        self.early_stopping = early_stopping
        self.callbacks: list[Any] = checked_callbacks(callbacks, *self.callback_kinds)
        self.profiler = profiler
        self.overfit_batch = overfit_batch
        self.checkpoint_every = checkpoint_every
        self.seed = seed


class State(ABC):
    """All of a training that changes, but its progress; a framework's own.

    Attributes:
        callbacks: A user's own, with what they remember.
    """

    callbacks: Callbacks

    @property
    @abstractmethod
    def learning_rate(self) -> float:
        """What the optimizer's next step will use."""

    @abstractmethod
    def begin_epoch(self, epoch: int) -> None:
        """Makes ready for an epoch, as a function of its number alone."""

    @abstractmethod
    def step_scheduler(self, monitored: float) -> None:
        """Has the scheduler, if there is one, set the next epoch's learning rate."""

    @abstractmethod
    def save(self, folder: Path, progress: Progress) -> None:
        """Fills a checkpoint's empty folder."""

    @abstractmethod
    def restore(self, folder: Path, progress: Progress) -> None:
        """Takes over what a checkpoint holds.

        Raises:
            CheckpointError: If it is not one of this model and optimizer.
        """


S = TypeVar("S", bound=State)


class Epochs(Generic[S]):
    """The epochs of one training: logged, judged and saved at their ends, over when it is time.

    Args:
        run: Where to log and save.
        trainer: Whose training it is.
        state: What is saved; taken from the latest checkpoint, if there is one.

    Attributes:
        progress: How far the training is.
        state: As above.
    """

    def __init__(self, run: Run, trainer: EpochTrainer, state: S) -> None:
        self.progress = Progress()
        self.state = state
        self._run = run
        self._trainer = trainer
        self._unsaved: dict[str, float] = {}
        if checkpoint := run.checkpoints.latest():
            state.restore(checkpoint.path, self.progress)
            self._stop_early()

    def __iter__(self) -> Iterator[int]:
        """Yields the number of each epoch, from 1; :meth:`end` must be called within each."""
        while not self.are_over:
            yield self.begin()
        self.save_last()

    @property
    def are_over(self) -> bool:
        """Whether no further epoch is to begin: all are done, or a stop is due."""
        return self.progress.epoch >= self._trainer.epochs or self._run.should_stop

    def begin(self) -> int:
        """Begins the next epoch; returns its number."""
        epoch = self.progress.epoch + 1
        self.state.begin_epoch(epoch)
        self.state.callbacks.on_epoch_begin(epoch)
        return epoch

    def end(self, metrics: Mapping[str, float]) -> None:
        """Ends the epoch that has begun.

        Args:
            metrics: What was measured, such as ``train/loss`` and ``val/accuracy``; the monitored
                metric among them.

        Raises:
            ConfigError: If the monitored metric is not among them.
            Diverged: If a loss or the monitored metric is NaN or infinite.
        """
        trainer, progress = self._trainer, self.progress
        epoch = progress.epoch + 1
        known = {"epoch": float(epoch), "lr": self.state.learning_rate, **metrics}
        self._check(known)
        self._run.log(known, step=epoch)
        self.state.step_scheduler(known[trainer.monitor])
        is_best = progress.end_epoch(
            known, trainer.monitor, trainer.mode, trainer.early_stopping.min_delta
        )
        self.state.callbacks.on_epoch_end(epoch, known)
        self._stop_early()
        self._unsaved = known
        if is_best or epoch % trainer.checkpoint_every == 0:
            self.save_last()

    def save_last(self) -> None:
        """Saves the last epoch, if it has not been."""
        if self._unsaved:
            metrics, self._unsaved = self._unsaved, {}
            self._run.checkpoints.save(
                self.progress.epoch,
                lambda folder: self.state.save(folder, self.progress),
                metrics,
            )

    def _stop_early(self) -> None:
        """Stops when patience is out."""
        if self.progress.waited >= (self._trainer.early_stopping.patience or math.inf):
            self._run.stop("stopped_early")

    def _check(self, metrics: Mapping[str, float]) -> None:
        monitor = self._trainer.monitor
        if monitor not in metrics:
            raise ConfigError(
                f"training.monitor: Received {monitor!r}, which is not measured.\n"
                f"Expected one of {', '.join(sorted(metrics))}.\n"
                "Type, for instance,  training.monitor=val/loss training.mode=min"
            )
        for name in ("train/loss", "val/loss", monitor):
            if not math.isfinite(metrics.get(name, 0.0)):
                raise Diverged(name, metrics[name], self.progress.batches)
