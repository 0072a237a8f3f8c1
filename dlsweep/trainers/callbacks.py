"""Code of a user's own that a trainer calls at the moments of a training.

Named in the config, with its arguments::

    training:
      callbacks:
        - _target_: my_project.SaveWeightHistogram
          every: 5

The methods' names are those of ``keras.callbacks.Callback``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dlsweep.run.run import Run
from dlsweep.trainers.starting_points import kinds


class Callback:
    """Does nothing at each moment; a subclass overrides those that it needs.

    Attributes:
        run: The run that is trained; log with ``self.run.log``, stop with ``self.run.stop``.
        model: The model in training. At the training's end, with the weights that are kept.
    """

    run: Run
    model: Any

    def on_train_begin(self) -> None:
        """Before the first batch; in a run that goes on, before its next one."""

    def on_epoch_begin(self, epoch: int) -> None:
        """Before an epoch; they count from 1, as they are logged."""

    def on_train_batch_begin(self, batch: int) -> None:
        """Before a batch; they count from 1 and on through all epochs."""

    def on_train_batch_end(self, batch: int) -> None:
        """After a batch."""

    def on_epoch_end(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """After an epoch was measured and logged, before it is saved."""

    def on_train_end(self, metrics: Mapping[str, float]) -> None:
        """At the end, also of a run that was asked to stop; with the best epoch's metrics."""

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must hold for the callback to go on: plain values and tensors."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over what :meth:`state_dict` gave."""


class Callbacks(Callback):
    """Several callbacks as one, called in their order."""

    def __init__(self, callbacks: Sequence[Callback] = ()) -> None:
        self._callbacks = list(callbacks)

    def __len__(self) -> int:
        return len(self._callbacks)

    def kinds(self) -> dict[str, str]:
        """The class of each, for a checkpoint."""
        return kinds(**{f"callbacks[{n}]": each for n, each in enumerate(self._callbacks)})

    def begin(self, run: Run, model: Any) -> None:
        """Tells each what is trained, and that it begins."""
        for each in self._callbacks:
            each.run, each.model = run, model
        self.on_train_begin()

    def on_train_begin(self) -> None:
        """Passes it on, as do the others."""
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
