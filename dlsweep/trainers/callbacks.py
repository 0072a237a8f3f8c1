"""Callbacks: a user's own code that a trainer calls during training.

Configure them with their arguments::

    training:
      callbacks:
        - _target_: my_project.SaveWeightHistogram
          every: 5

The method names are those of ``keras.callbacks.Callback``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dlsweep.run.run import Run
from dlsweep.trainers.starting_points import kinds


class Callback:
    """The base class of callbacks. Its methods do nothing; override those that you need.

    Attributes:
        run: The run; log with ``self.run.log``, stop with ``self.run.stop``.
        model: The model in training. At the end, it has the final weights.
    """

    run: Run
    model: Any

    def on_train_begin(self) -> None:
        """Called before the first batch; in a resumed run, before its next batch."""

    def on_epoch_begin(self, epoch: int) -> None:
        """Called before an epoch; epochs count from 1, as they are logged."""

    def on_train_batch_begin(self, batch: int) -> None:
        """Called before a batch; batches count from 1 through all epochs."""

    def on_train_batch_end(self, batch: int) -> None:
        """Called after a batch."""

    def on_epoch_end(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Called after an epoch's metrics are logged, before its checkpoint is saved."""

    def on_train_end(self, metrics: Mapping[str, float]) -> None:
        """Called at the end, also after a stop request, with the best epoch's metrics."""

    def state_dict(self) -> dict[str, Any]:
        """Returns the callback's state for a checkpoint: plain values and tensors."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores the state of :meth:`state_dict`."""


class Callbacks(Callback):
    """Calls several callbacks in their order."""

    def __init__(self, callbacks: Sequence[Callback] = ()) -> None:
        self._callbacks = list(callbacks)

    def __len__(self) -> int:
        return len(self._callbacks)

    def kinds(self) -> dict[str, str]:
        """Returns the class of each callback, for a checkpoint."""
        return kinds(**{f"callbacks[{n}]": each for n, each in enumerate(self._callbacks)})

    def begin(self, run: Run, model: Any) -> None:
        """Sets run and model of each callback, and starts the training."""
        for each in self._callbacks:
            each.run, each.model = run, model
        self.on_train_begin()

    def on_train_begin(self) -> None:
        """Calls each callback, as do the other methods."""
        for each in self._callbacks:
            each.on_train_begin()

    def on_epoch_begin(self, epoch: int) -> None:  # noqa: D102
        for each in self._callbacks:
            each.on_epoch_begin(epoch)

    def on_train_batch_begin(self, batch: int) -> None:  # noqa: D102
        for each in self._callbacks:
            each.on_train_batch_begin(batch)

    def on_train_batch_end(self, batch: int) -> None:  # noqa: D102
        for each in self._callbacks:
            each.on_train_batch_end(batch)

    def on_epoch_end(self, epoch: int, metrics: Mapping[str, float]) -> None:  # noqa: D102
        for each in self._callbacks:
            each.on_epoch_end(epoch, metrics)

    def on_train_end(self, metrics: Mapping[str, float]) -> None:  # noqa: D102
        for each in self._callbacks:
            each.on_train_end(metrics)

    def state_dict(self) -> dict[str, Any]:  # noqa: D102
        return {str(number): each.state_dict() for number, each in enumerate(self._callbacks)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:  # noqa: D102
        for number, each in enumerate(self._callbacks):
            each.load_state_dict(state[str(number)])
