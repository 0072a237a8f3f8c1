"""All that changes while Keras trains: what a checkpoint holds, and how it is put back."""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from dlsweep.data.keras import KerasData
from dlsweep.errors import CheckpointError, Diverged
from dlsweep.schedulers.keras import Scheduler, learning_rate
from dlsweep.trainers.callbacks import Callbacks
from dlsweep.trainers.epochs import Epochs, State
from dlsweep.trainers.keras_average import AveragedModel
from dlsweep.trainers.starting_points import kinds

STATE, _VARIABLES = "state.json", "variables.npz"
_UNREADABLE = (OSError, KeyError, ValueError, TypeError)
_PLAIN = (bool, int, float, str, type(None))


class KerasState(State):
    """A compiled model, its schedule and callbacks, and the random numbers of an epoch.

    Args:
        model: Built and compiled.
        data: What it is trained on.
        scheduler: Changes the learning rate, if it is to change.
        callbacks: A user's own, called by the trainer.
        keras_callbacks: A user's own, called by Keras; their plain attributes are saved.
        seed: Of all random numbers.
        swa_start: The first epoch whose end's weights enter a mean.
    """

    unreadable = _UNREADABLE

    def __init__(
        self,
        model: keras.Model,
        data: KerasData,
        scheduler: Scheduler | None,
        callbacks: Callbacks,
        keras_callbacks: Sequence[keras.callbacks.Callback],
        seed: int,
        swa_start: int | None,
    ) -> None:
        self.model = model
        self.data = data
        self.scheduler = scheduler
        self.callbacks = callbacks
        self.keras_callbacks = list(keras_callbacks)
        self.seed = seed
        self.swa_start = swa_start
        self._mean = AveragedModel(model)
        self._remembered: list[dict[str, Any]] = []

    @property
    def learning_rate(self) -> float:
        """Of the optimizer."""
        return shortest(learning_rate(self.model.optimizer))

    def begin_epoch(self, epoch: int) -> None:
        """Arranges the data and sets every random number generator."""
        self.data.train.begin(epoch)
        keras.utils.set_random_seed(_mixed(self.seed, epoch))
        for number, state in enumerate(_seed_states(self.model), start=1):
            state.assign([_mixed(self.seed, epoch, number), 0])

    def end_batches(self, epoch: int) -> None:
        """Has a mean over epochs follow, before the epoch is measured."""
        if self.swa_start is not None and epoch >= self.swa_start:
            self._mean.update_parameters()

    def step_scheduler(self, monitored: float) -> None:
        """Has the scheduler set the next epoch's learning rate."""
        if self.scheduler:
            self.scheduler.step(monitored)

    def remind(self) -> None:
        """Gives Keras's callbacks back what they knew, after they have begun anew."""
        for callback, known in zip(self.keras_callbacks, self._remembered, strict=False):
            vars(callback).update(known)

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """Meanwhile the model holds the average of its weights, if one is kept."""
        optimizer = self.model.optimizer
        if not getattr(optimizer, "inner_optimizer", optimizer).use_ema:
            with self._mean.swapped():
                yield
            return
        swap = keras.callbacks.SwapEMAWeights()
        swap.set_model(self.model)
        swap.on_test_begin()
        try:
            yield
        finally:
            swap.on_test_end()

    def _kinds(self) -> dict[str, str]:
        optimizer = self.model.optimizer
        inner = getattr(optimizer, "inner_optimizer", optimizer)  # of one that scales the loss
        others = {f"keras_callbacks[{n}]": one for n, one in enumerate(self.keras_callbacks)}
        swa = {} if self.swa_start is None else {"average over": "epochs"}
        return {
            **kinds(optimizer=inner, scheduler=self.scheduler, **others),
            **swa,
            "average": str(inner.use_ema),
            "loss scaling": str(inner is not optimizer),
        }

    def _write(self, folder: Path, shared: Mapping[str, Any]) -> None:
        trained = self._mean.trained()
        with self.averaged():
            kept = {name: variable.numpy() for name, variable in self._variables()}
        arrays: dict[str, Any] = {**kept, **trained}
        np.savez(folder / _VARIABLES, **arrays)
        state = {
            **shared,
            "n_averaged": self._mean.n_averaged,
            "weights": _stable_names(self.model.weights),
            "scheduler": self.scheduler.state_dict() if self.scheduler else None,
            "keras_callbacks": [_plain(vars(each)) for each in self.keras_callbacks],
        }
        (folder / STATE).write_text(json.dumps(state))

    def _read(self, folder: Path) -> dict[str, Any]:
        state: dict[str, Any] = json.loads((folder / STATE).read_text())
        return {**state, "variables": _values(folder)}

    def _restore(self, saved: Mapping[str, Any]) -> None:
        with self.averaged():
            left = _assign(saved["variables"], self._variables())
        trained = {name for name in left if name.startswith("trained/")}
        if left - trained:
            raise ValueError(f"it holds more: {', '.join(sorted(left - trained))}")
        known = {name: saved["variables"][name] for name in trained}
        self._mean.restore(saved.get("n_averaged", 0), known)
        if self.scheduler:
            self.scheduler.load_state_dict(saved["scheduler"])
        self._remembered = saved["keras_callbacks"]

    def _saved_weights(self, saved: Mapping[str, Any]) -> Mapping[str, Any]:
        values = saved["variables"]
        return {name: values[f"model/{n:04d}"] for n, name in enumerate(saved["weights"])}

    def _weights(self) -> Mapping[str, Any]:
        return dict(zip(_stable_names(self.model.weights), self.model.weights, strict=True))

    def _set_weights(self, weights: Mapping[str, Any]) -> None:
        variables = self._weights()
        for name, value in weights.items():
            variables[name].assign(value)

    def _variables(self) -> Iterator[tuple[str, Any]]:
        """Those of model and optimizer; by number, as names differ between processes."""
        yield from _numbered("model", self.model.weights)
        yield from _numbered("optimizer", self.model.optimizer.variables)


def load_weights(model: keras.Model, folder: Path) -> None:
    """Gives a model the weights that a checkpoint kept.

    Raises:
        CheckpointError: If they are those of another model.
    """
    try:
        _assign(_values(folder), _numbered("model", model.weights))
    except _UNREADABLE as error:
        raise CheckpointError(f"{folder} does not fit this model: {error}") from None


def _numbered(kind: str, variables: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    for number, variable in enumerate(variables):
        yield f"{kind}/{number:04d}", variable


def _values(folder: Path) -> dict[str, np.ndarray[Any, Any]]:
    with np.load(folder / _VARIABLES, allow_pickle=False) as values:
        return dict(values)


def _assign(values: Mapping[str, Any], variables: Iterator[tuple[str, Any]]) -> set[str]:
    """Sets variables to the values of their names; returns the names of those left."""
    left = set(values)
    for name, variable in variables:
        variable.assign(values[name])
        left.discard(name)
    return left


def _stable_names(weights: Sequence[Any]) -> list[str]:
    """Their paths, with the numbers in names counted anew.

    Keras counts layers of one class through the whole process, so the same model has other names
    there where another was built before.
    """
    siblings: dict[tuple[str, ...], list[str]] = {}
    names = []
    for weight in weights:
        path: list[str] = []
        for part in weight.path.split("/"):
            base = re.sub(r"_\d+$", "", part)
            known = siblings.setdefault((*path, base), [])
            if part not in known:
                known.append(part)
            number = known.index(part)
            path.append(f"{base}_{number}" if number else base)
        names.append("/".join(path))
    return names


def _plain(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Those that JSON can hold; such as the best value and how long ago that was."""
    values = {k: v.item() if isinstance(v, np.generic) else v for k, v in attributes.items()}
    return {name: value for name, value in values.items() if isinstance(value, _PLAIN)}


def _seed_states(model: keras.Model) -> Iterator[Any]:
    """The state of every SeedGenerator in the model, such as those of dropout."""
    weights = {id(weight) for weight in model.weights}
    return (variable for variable in model.variables if id(variable) not in weights)


def _mixed(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1)[0]) >> 1


def shortest(value: float) -> float:
    """The shortest number that stands for a float32, such as 0.1; others as they are."""
    single = np.float32(value)
    return float(str(single)) if single == value else float(value)


class Reporter(keras.callbacks.Callback):
    """Begins and ends the epochs of ``model.fit``; the last of its callbacks.

    Args:
        epochs: What is left to do.
    """

    def __init__(self, epochs: Epochs[KerasState]) -> None:
        super().__init__()
        #: Nothing waits for a batch's logs unless a user's own callback must see each batch.
        self.async_safe = not len(epochs.state.callbacks)
        self._epochs = epochs
        self._state = epochs.state
        self._averaged = contextlib.ExitStack()
        self._batches = 0
        self._diverged: tuple[float, float] | None = None

    def on_train_begin(self, logs: Any = None) -> None:  # noqa: ARG002
        """Behind those of a user, which begin anew."""
        self._state.remind()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002
        """Begins it."""
        self._epochs.begin()
        self._batches = 0

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002
        """Tells a user's callbacks."""
        self._state.callbacks.on_train_batch_begin(self._epochs.progress.batches + batch + 1)

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float]) -> None:
        """Notes how far it is, and whether the loss is still a number."""
        self._batches = max(self._batches, batch + 1)
        if not math.isfinite(loss := logs.get("loss", 0.0)):
            self._diverged = min((batch + 1, loss), self._diverged or (math.inf, loss))
            self.model.stop_training = True
        self._state.callbacks.on_train_batch_end(self._epochs.progress.batches + batch + 1)

    def on_test_begin(self, logs: Any = None) -> None:  # noqa: ARG002
        """Evaluates the average of the weights, if one is kept."""
        self._state.end_batches(self._epochs.progress.epoch + 1)
        self._averaged.enter_context(self._state.averaged())

    def on_test_end(self, logs: Any = None) -> None:  # noqa: ARG002
        """Trains on with the weights themselves."""
        self._averaged.close()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float]) -> None:  # noqa: ARG002
        """Ends it: logs, saves, and stops if it is time."""
        progress = self._epochs.progress
        if self._diverged:
            batch, loss = self._diverged
            raise Diverged("train/loss", loss, progress.batches + int(batch))
        progress.batches += self._batches
        asked_to_stop = self.model.stop_training  # by a user's own callback
        self._epochs.end({_metric(name): shortest(value) for name, value in logs.items()})
        self.model.stop_training = asked_to_stop or self._epochs.are_over
        if self.model.stop_training:
            self._epochs.save_last()


def _metric(name: str) -> str:
    """Our name of one of Keras's logs."""
    return f"val/{name[4:]}" if name.startswith("val_") else f"train/{name}"
