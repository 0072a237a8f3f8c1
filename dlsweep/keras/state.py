"""The training state of Keras: what a checkpoint contains, and how to restore it."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from dlsweep.errors import CheckpointError
from dlsweep.keras.accumulate import flush
from dlsweep.keras.average import AveragedModel
from dlsweep.keras.batches import KerasData
from dlsweep.keras.optimizers import inner_optimizer
from dlsweep.keras.schedulers import Rates, Scheduler, learning_rate
from dlsweep.trainers.callbacks import Callbacks
from dlsweep.trainers.epochs import State
from dlsweep.trainers.starting_points import kinds

STATE, _VARIABLES, _RESUME = "state.json", "variables.npz", "resume.npz"
_UNREADABLE = (OSError, KeyError, ValueError, TypeError)
_PLAIN = (bool, int, float, str, type(None))


class KerasState(State):
    """The training state of Keras: model, scheduler, callbacks and random numbers.

    Args:
        model: The built and compiled model.
        data: The training data.
        scheduler: The learning rate scheduler, if there is one.
        callbacks: The user's callbacks, called by the trainer.
        keras_callbacks: The user's Keras callbacks, called by Keras; their plain attributes are
            saved.
        seed: The seed of all random numbers.
        swa_start: The first epoch of an average over epochs.
    """

    unreadable = _UNREADABLE
    resume_file = _RESUME

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
        self._initial = Rates.of(model.optimizer, scheduler)
        self._remembered: list[dict[str, Any]] = []
        self._midway: dict[str, Any] = {}

    @property
    def learning_rate(self) -> float:
        """The optimizer's learning rate."""
        return shortest(learning_rate(self.model.optimizer))

    def begin_epoch(self, epoch: int, done: int) -> None:
        """Sets the order of the data and seeds every random generator."""
        self.data.train.begin(epoch, done)
        keras.utils.set_random_seed(_mixed(self.seed, epoch))
        for number, state in enumerate(_seed_states(self.model), start=1):
            state.assign([_mixed(self.seed, epoch, number), 0])
        self._go_on("seeds", _seed_states(self.model))

    def end_batches(self, epoch: int) -> None:
        """Takes a step for batches left over, and updates an average over epochs."""
        flush(self.model)
        if self.swa_start is not None and epoch >= self.swa_start:
            self._mean.update_parameters()

    def step_scheduler(self, monitored: float) -> None:
        """Steps the scheduler: sets the next epoch's learning rate."""
        if self.scheduler:
            self.scheduler.step(monitored)

    def take_hyperparameters(self) -> None:
        """Sets the learning rates; every other option is the optimizer's since it was built."""
        self._initial.set(self.model.optimizer, self.scheduler)

    def remind(self) -> None:
        """Restores the state of Keras callbacks, after Keras has reset them."""
        for callback, known in zip(self.keras_callbacks, self._remembered, strict=False):
            vars(callback).update(known)

    def begin_metrics(self) -> None:
        """Restores the metrics of a resumed epoch, after Keras has reset them."""
        self._go_on("metrics", self.model.metrics_variables)

    def _go_on(self, kind: str, variables: Iterable[Any]) -> None:
        for name, variable in _numbered(kind, variables):
            if name in self._midway:
                variable.assign(self._midway.pop(name))

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """A context in which the model has the average of its weights, if there is one."""
        if not inner_optimizer(self.model).use_ema:
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
        inner = inner_optimizer(self.model)
        others = {f"keras_callbacks[{n}]": one for n, one in enumerate(self.keras_callbacks)}
        swa = {} if self.swa_start is None else {"average over": "epochs"}
        return {
            **kinds(optimizer=inner, scheduler=self.scheduler, **others),
            **swa,
            "average": str(inner.use_ema),
            "loss scaling": str(inner is not self.model.optimizer),
        }

    def _write(self, folder: Path, shared: Mapping[str, Any]) -> None:
        trained = self._mean.trained()
        with self.averaged():
            values: dict[str, Any] = {name: one.numpy() for name, one in self._variables()}
        if shared["progress"]["steps"]:
            values |= {name: variable.numpy() for name, variable in self._midway_variables()}
        weights = {name: values.pop(name) for name in [*values] if name.startswith("model/")}
        np.savez(folder / _VARIABLES, **weights)
        np.savez(folder / _RESUME, **(values | trained))
        state = {
            **shared,
            "n_averaged": self._mean.n_averaged,
            "weights": stable_names(self.model.weights),
            "scheduler": self.scheduler.state_dict() if self.scheduler else None,
            "keras_callbacks": [_plain(vars(each)) for each in self.keras_callbacks],
        }
        (folder / STATE).write_text(json.dumps(state))

    def _read(self, folder: Path) -> dict[str, Any]:
        state: dict[str, Any] = json.loads((folder / STATE).read_text())
        rest = folder / _RESUME  # earlier versions have all in one file
        resumed = _values(rest) if rest.exists() else {}
        return {**state, "variables": _values(folder / _VARIABLES) | resumed}

    def _restore(self, saved: Mapping[str, Any]) -> None:
        with self.averaged():
            left = _assign(saved["variables"], self._variables())
        trained = {name for name in left if name.startswith("trained/")}
        midway = {name for name in left if name.startswith(("seeds/", "metrics/"))}
        if other := left - trained - midway:
            raise ValueError(f"it contains more: {', '.join(sorted(other))}")
        own = {name: saved["variables"][name] for name in trained}
        self._mean.restore(saved.get("n_averaged", 0), own)
        self._midway = {name: saved["variables"][name] for name in midway}
        if self.scheduler:
            self.scheduler.load_state_dict(saved["scheduler"])
        self._remembered = saved["keras_callbacks"]

    def _saved_weights(self, folder: Path) -> Mapping[str, Any]:
        names = json.loads((folder / STATE).read_text())["weights"]
        values = _values(folder / _VARIABLES)
        return {name: values[f"model/{n:04d}"] for n, name in enumerate(names)}

    def _weights(self) -> Mapping[str, Any]:
        return dict(zip(stable_names(self.model.weights), self.model.weights, strict=True))

    def _set_weights(self, weights: Mapping[str, Any]) -> None:
        variables = self._weights()
        for name, value in weights.items():
            variables[name].assign(value)

    def _variables(self) -> Iterator[tuple[str, Any]]:
        """Yields the variables of model and optimizer by number: names differ by process."""
        yield from _numbered("model", self.model.weights)
        yield from _numbered("optimizer", self.model.optimizer.variables)

    def _midway_variables(self) -> Iterator[tuple[str, Any]]:
        """Yields the variables that an epoch resets: random states and the metrics' means."""
        yield from _numbered("seeds", _seed_states(self.model))
        yield from _numbered("metrics", self.model.metrics_variables)


def load_weights(model: keras.Model, folder: Path) -> None:
    """Loads a checkpoint's weights into a model.

    Raises:
        CheckpointError: If they belong to another model.
    """
    try:
        _assign(_values(folder / _VARIABLES), _numbered("model", model.weights))
    except _UNREADABLE as error:
        raise CheckpointError(f"{folder} does not fit this model: {error}") from None


def _numbered(kind: str, variables: Iterable[Any]) -> Iterator[tuple[str, Any]]:
    for number, variable in enumerate(variables):
        yield f"{kind}/{number:04d}", variable


def _values(file: Path) -> dict[str, np.ndarray[Any, Any]]:
    with np.load(file, allow_pickle=False) as values:
        return dict(values)


def _assign(values: Mapping[str, Any], variables: Iterator[tuple[str, Any]]) -> set[str]:
    """Sets variables by name; returns the names without a value."""
    left = set(values)
    for name, variable in variables:
        variable.assign(values[name])
        left.discard(name)
    return left


def stable_names(weights: Sequence[Any]) -> list[str]:
    """Returns the paths of weights, with the numbers in names counted anew.

    Keras counts layers of one class through the whole process, so the names of a model depend on
    the models built before it.
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
    """Returns the attributes that JSON can store, such as a best value and a wait counter."""
    values = {k: v.item() if isinstance(v, np.generic) else v for k, v in attributes.items()}
    return {name: value for name, value in values.items() if isinstance(value, _PLAIN)}


def _seed_states(model: keras.Model) -> Iterator[Any]:
    """Yields the state of every SeedGenerator in the model, such as those of dropout."""
    weights = {id(weight) for weight in model.weights}
    return (variable for variable in model.variables if id(variable) not in weights)


def _mixed(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1)[0]) >> 1


def shortest(value: float) -> float:
    """Returns the shortest decimal of a float32, such as 0.1; other numbers as they are."""
    single = np.float32(value)
    return float(str(single)) if single == value else float(value)
