"""A callback that logs, saves and stops ``model.fit``."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from typing import Any

import keras

from dlsweep.errors import Diverged
from dlsweep.keras.state import KerasState, shortest
from dlsweep.trainers.epochs import Epochs
from dlsweep.trainers.saving import MidEpoch


class Leave(Exception):  # noqa: N818 - it is no error
    """Leaves ``model.fit`` within an epoch, after saving a checkpoint."""


class Reporter(keras.callbacks.Callback):
    """Starts and ends the epochs of ``model.fit``; the last of its callbacks.

    Keras may call callbacks from another thread than the one that trains. So steps are counted in
    the training step itself.

    Args:
        epochs: The remaining epochs.
        mid_epoch: Decides when to save within an epoch.
        steps: The number of steps in an epoch; None if epochs cannot be saved before their end.
    """

    def __init__(self, epochs: Epochs[KerasState], mid_epoch: MidEpoch, steps: int | None) -> None:
        super().__init__()
        #: Keras need not wait for a batch's logs unless a user's callback needs each batch.
        self.async_safe = not len(epochs.state.callbacks)
        self._epochs = epochs
        self._state = epochs.state
        self._progress = epochs.progress
        self._mid_epoch = mid_epoch
        self._steps = steps
        self._averaged = contextlib.ExitStack()
        self._before = 0
        self._steps_before = 0
        self._has_begun = self._ends_early = False
        self._take_step: Any = None
        self._diverged: tuple[float, float] | None = None

    def on_train_begin(self, logs: Any = None) -> None:  # noqa: ARG002
        """Restores the state of a user's callbacks after their own start."""
        self._state.remind()
        self._take_step = self.model.train_function
        self.model.train_function = self._step

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002
        """Starts or resumes an epoch."""
        self._epochs.begin()
        self._state.begin_metrics()
        self._before = self._progress.batches
        self._steps_before = self._progress.steps
        self._has_begun = self._ends_early = self._steps_before > 0

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002
        """Calls a user's callbacks, except for a batch that had started before the checkpoint."""
        if not self._has_begun:
            self._state.callbacks.on_train_batch_begin(self._before + batch + 1)
        self._has_begun = False

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float]) -> None:
        """Stores the batch's loss, to detect NaN."""
        if not math.isfinite(loss := logs.get("loss", 0.0)):
            self._diverged = min((batch + 1, loss), self._diverged or (math.inf, loss))
            self.model.stop_training = True
        self._state.callbacks.on_train_batch_end(self._before + batch + 1)

    def on_test_begin(self, logs: Any = None) -> None:  # noqa: ARG002
        """Swaps in the average of the weights for evaluation, if there is one."""
        if self._ends_early:
            self.model.stop_training = self._ends_early = False
        self._state.end_batches(self._progress.epoch + 1)
        self._averaged.enter_context(self._state.averaged())

    def on_test_end(self, logs: Any = None) -> None:  # noqa: ARG002
        """Restores the weights for training."""
        self._averaged.close()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float]) -> None:  # noqa: ARG002
        """Ends an epoch: logs, saves, and stops if needed."""
        self._check()
        asked_to_stop = self.model.stop_training  # by a user's callback
        self._epochs.end({_metric(name): shortest(value) for name, value in logs.items()})
        self.model.stop_training = asked_to_stop or self._epochs.are_over
        if self.model.stop_training:
            self._epochs.save_last()

    def release(self) -> None:
        """Restores the model's own training step."""
        if self._take_step:
            self.model.train_function = self._take_step

    def _step(self, data: Any) -> Any:
        """Saves a checkpoint if one is due, then takes a training step."""
        progress = self._progress
        has_news = self._steps is not None and progress.steps > self._steps_before
        if has_news and self._mid_epoch.is_due(progress.steps):
            self._check()
            self._epochs.save_part()
            if self._epochs.run.should_stop:
                raise Leave
        logs = self._take_step(data)
        progress.batches += 1
        progress.steps += 1
        if self._ends_early and progress.steps == self._steps:
            self.model.stop_training = True
        return logs

    def _check(self) -> None:
        if self._diverged:
            batch, loss = self._diverged
            raise Diverged("train/loss", loss, self._before + int(batch))


def _metric(name: str) -> str:
    """Converts the name of a Keras log to dlsweep's."""
    return f"val/{name[4:]}" if name.startswith("val_") else f"train/{name}"
