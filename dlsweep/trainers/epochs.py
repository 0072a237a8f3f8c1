"""Epochs and the training state that all frameworks share: begin, end, log, save, restore.

A trainer's loop is ``for epoch in epochs: …; epochs.end(metrics)``. If a framework has its own
loop, the trainer calls :meth:`Epochs.begin` and :meth:`Epochs.end` from there.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from dlsweep.errors import CheckpointError, ConfigError, Diverged
from dlsweep.run.checkpoint import Checkpoint
from dlsweep.run.run import Run
from dlsweep.trainers.callbacks import Callbacks
from dlsweep.trainers.early_stopping import Progress
from dlsweep.trainers.epoch_trainer import EpochTrainer
from dlsweep.trainers.starting_points import check_kinds, fitting


class State(ABC):
    """The training state: what changes during training. Each framework has a subclass.

    Attributes:
        callbacks: The user's callbacks, with their state.
        unreadable: The exceptions that reading an unsuitable checkpoint raises.
        resume_file: The file of a checkpoint that only a resumed training needs; the weights are
            in others.
    """

    callbacks: Callbacks
    unreadable: ClassVar[tuple[type[Exception], ...]]
    resume_file: ClassVar[str]

    @property
    @abstractmethod
    def learning_rate(self) -> float:
        """The learning rate of the optimizer's next step."""

    @abstractmethod
    def begin_epoch(self, epoch: int, done: int) -> None:
        """Prepares an epoch; depends only on its number.

        Args:
            epoch: Its number.
            done: The number of steps already done; then the state is the checkpoint's.
        """

    @abstractmethod
    def step_scheduler(self, monitored: float) -> None:
        """Steps the scheduler, if there is one: sets the next epoch's learning rate."""

    def gather(self) -> None:  # noqa: B027 - most have all there is
        """Gathers what :meth:`save` needs from the other ranks; every rank must call it."""

    def save(self, folder: Path, progress: Progress) -> None:
        """Writes the state to a checkpoint's empty folder."""
        shared = {
            "kinds": self._all_kinds(),
            "callbacks": self.callbacks.state_dict(),
            "progress": progress.state_dict(),
        }
        self._write(folder, shared)

    def restore(self, folder: Path, progress: Progress) -> None:
        """Restores the state of a checkpoint.

        Raises:
            CheckpointError: If it does not belong to this model and optimizer.
        """
        try:
            saved = self._read(folder)
            check_kinds(saved["kinds"], self._all_kinds())
            self.callbacks.load_state_dict(saved["callbacks"])
            progress.load_state_dict(saved["progress"])
            self._restore(saved)
        except self.unreadable as error:
            raise CheckpointError(
                f"{folder} does not fit this model and optimizer: {error}\n"
                "Train with those it was saved from, or in a new run folder."
            ) from None

    @abstractmethod
    def take_hyperparameters(self) -> None:
        """Sets the optimizer's hyperparameters to those of the config, after :meth:`restore`.

        A learning rate that a scheduler has changed keeps its ratio to the initial one.
        """

    def take_weights(self, folder: Path) -> None:
        """Loads a checkpoint's weights that fit the model, and prints those that do not.

        Raises:
            CheckpointError: If none fits.
        """
        try:
            saved = self._saved_weights(folder)
        except self.unreadable as error:
            raise CheckpointError(f"{folder} cannot be read: {error}") from None
        taken = fitting(folder, _shapes(self._weights()), _shapes(saved))
        self._set_weights({name: saved[name] for name in taken})

    def _all_kinds(self) -> dict[str, str]:
        return {**self._kinds(), **self.callbacks.kinds()}

    @abstractmethod
    def _kinds(self) -> dict[str, str]:
        """Returns the classes of the parts; a checkpoint must have the same ones."""

    @abstractmethod
    def _write(self, folder: Path, shared: Mapping[str, Any]) -> None:
        """Writes the framework's own state together with the shared state."""

    @abstractmethod
    def _read(self, folder: Path) -> dict[str, Any]:
        """Reads everything that was written."""

    @abstractmethod
    def _restore(self, saved: Mapping[str, Any]) -> None:
        """Restores the framework's own state."""

    @abstractmethod
    def _saved_weights(self, folder: Path) -> Mapping[str, Any]:
        """Returns the weights in a checkpoint, by the names of :meth:`_weights`."""

    @abstractmethod
    def _weights(self) -> Mapping[str, Any]:
        """Returns the model's weights, by names that are the same in each process."""

    @abstractmethod
    def _set_weights(self, weights: Mapping[str, Any]) -> None:
        """Sets some of the model's weights."""


def _shapes(arrays: Mapping[str, Any]) -> dict[str, list[int]]:
    """Returns the shapes of the arrays among the values."""
    return {name: list(one.shape) for name, one in arrays.items() if hasattr(one, "shape")}


S = TypeVar("S", bound=State)


class Epochs(Generic[S]):
    """The epochs of a training: logs, checkpoints and stops at their ends.

    Args:
        run: The run to log and save with.
        trainer: The trainer.
        state: The training state. It is restored from the latest checkpoint, if there is one, or
            from a new run's starting point.

    Attributes:
        progress: The progress of the training.
        run: As above.
        state: As above.
    """

    def __init__(self, run: Run, trainer: EpochTrainer, state: S) -> None:
        self.progress = Progress()
        self.state = state
        self.run = run
        self._trainer = trainer
        self._unsaved: dict[str, float] = {}
        if checkpoint := run.checkpoints.latest():
            state.restore(checkpoint.require_whole(), self.progress)
            if checkpoint.is_inherited:
                self._inherit(checkpoint)
        elif start := trainer.starting_point:
            found = start.checkpoint()
            if start.weights_only:
                state.take_weights(found.path)
            else:
                self._take_over(found.require_whole())

    def __iter__(self) -> Iterator[int]:
        """Yields the number of each epoch, from 1; :meth:`end` must be called within each."""
        while not self.are_over:
            yield self.begin()
        self.save_last()

    @property
    def are_over(self) -> bool:
        """Whether to start no further epoch: all are done, or training must stop."""
        patience = self._trainer.early_stopping.patience or math.inf
        is_done = self.progress.epoch >= self._trainer.epochs or self.progress.waited >= patience
        return is_done or self.run.should_stop

    def begin(self) -> int:
        """Starts the next epoch; returns its number."""
        epoch = self.progress.epoch + 1
        self.state.begin_epoch(epoch, self.progress.steps)
        if not self.progress.steps:  # else it resumes within the epoch
            self.state.callbacks.on_epoch_begin(epoch)
        return epoch

    def end(self, metrics: Mapping[str, float]) -> None:
        """Ends the current epoch: logs its metrics and saves a checkpoint.

        Args:
            metrics: Metrics such as ``train/loss`` and ``val/accuracy``, including the monitored
                one.

        Raises:
            ConfigError: If the monitored metric is not among them.
            Diverged: If a loss or the monitored metric is NaN or infinite.
        """
        trainer, progress = self._trainer, self.progress
        epoch = progress.epoch + 1
        known = {"epoch": float(epoch), "lr": self.state.learning_rate, **metrics}
        self._check(known)
        self.run.log(known, step=epoch)
        self.state.step_scheduler(known[trainer.monitor])
        is_best = progress.end_epoch(
            known, trainer.monitor, trainer.mode, trainer.early_stopping.min_delta
        )
        self.state.callbacks.on_epoch_end(epoch, known)
        self._unsaved = known
        if is_best or epoch % trainer.checkpoint_every == 0:
            self.save_last()

    def save_part(self) -> None:
        """Saves a checkpoint within an epoch, at ``progress.steps``."""
        self._save({}, part=self.progress.steps)

    def settle(self) -> None:
        """Prints why training ended early, and whether the profiler traced nothing."""
        traced, done = self._trainer.traced, self.progress.batches
        if traced and done < traced[0]:
            print(f"No trace: the training ended after batch {done}, and {traced[0]} is the first")
        if self.progress.waited >= (self._trainer.early_stopping.patience or math.inf):
            self.run.stop("stopped_early")

    def save_last(self) -> None:
        """Saves the last epoch, if it is not saved yet."""
        if self._unsaved:
            metrics, self._unsaved = self._unsaved, {}
            self._save(metrics)

    def _inherit(self, checkpoint: Checkpoint) -> None:
        """Goes on from another trial's checkpoint with the hyperparameters of the config.

        Its epoch counts as the best so far: of the epochs before it, there are no weights here.
        """
        self.state.take_hyperparameters()
        self.progress.begin_with(checkpoint.metrics, self._trainer.monitor)
        print(f"Goes on after step {checkpoint.step} of another trial, with its weights")

    def _take_over(self, folder: Path) -> None:
        """Resumes from another run's checkpoint, which becomes this run's first one.

        The best epoch and the patience start anew, from the epochs that this run logs.
        """
        self.state.restore(folder, self.progress)
        done = self.progress.epoch
        if done >= self._trainer.epochs:
            raise ConfigError(
                f"training.epochs: Received {self._trainer.epochs}. Expected more than {done}, "
                f"which {folder} has done.\nType, for instance,  training.epochs={2 * done}"
            )
        self.progress.best, self.progress.reference, self.progress.waited = {}, None, 0
        print(f"Resumes after epoch {done} of {folder}, with its optimizer")
        self._save({}, part=self.progress.steps)

    def _save(self, metrics: dict[str, float], part: int = 0) -> None:
        self.state.gather()
        if self.run.ranks.rank:
            return
        self.run.checkpoints.begin_save(
            self.progress.epoch,
            lambda folder: self.state.save(folder, self.progress),
            metrics,
            part,
            [self.state.resume_file],
        )

    def _check(self, metrics: Mapping[str, float]) -> None:
        monitor = self._trainer.monitor
        if monitor not in metrics:
            raise ConfigError(
                f"training.monitor: Received {monitor!r}, which is not logged.\n"
                f"Expected one of {', '.join(sorted(metrics))}.\n"
                "Type, for instance,  training.monitor=val/loss"
            )
        for name in ("train/loss", "val/loss", monitor):
            if not math.isfinite(metrics.get(name, 0.0)):
                raise Diverged(name, metrics[name], self.progress.batches)
