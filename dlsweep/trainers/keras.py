"""Training with Keras: ``model.fit``, which can be stopped and goes on to the bit.

A model may be built in any of Keras's ways, and may have a ``train_step`` of its own. For a loop
of your own, subclass :class:`KerasTrainer`, override ``train``, and name the class in the config
as ``training._target_``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import keras
import numpy as np

from dlsweep.data.base import Array
from dlsweep.data.keras import Batches, KerasData, prepare
from dlsweep.errors import CheckpointError, ConfigError, DataError, Diverged
from dlsweep.run import Run
from dlsweep.rundir import write_atomically
from dlsweep.schedulers.keras import Scheduler
from dlsweep.trainers.config import built
from dlsweep.trainers.early_stopping import Progress
from dlsweep.trainers.epochs import Epochs, EpochTrainer, State

_STATE, _VARIABLES = "state.json", "variables.npz"
_NAMED_LOSSES = {
    "cross_entropy": lambda: keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    "mse": keras.losses.MeanSquaredError,
}
_POLICIES = {"fp32": "float32", "bf16": "mixed_bfloat16", "fp16": "mixed_float16"}


def setup(seed: int, deterministic: bool = False, threads: int | None = None) -> None:
    """Prepares a trial's process, before anything is built in it.

    Args:
        seed: Of Python's, NumPy's, Keras's and its backend's random numbers.
        deterministic: Whether to use only kernels that give the same bits twice; an operation
            that has none raises an error.
        threads: How many CPU threads an operation may use; None leaves that to the backend.

    Raises:
        ConfigError: If the seed is not one that all of them take.
    """
    if not 0 <= seed < 2**32:
        raise ConfigError(f"seed: Received {seed}. Expected a whole number from 0 to 2**32 - 1.")
    _backend().setup(seed, deterministic, threads)
    keras.utils.set_random_seed(seed)


class KerasTrainer(EpochTrainer):
    """Trains the config's model on the config's data.

    The arguments are those of :class:`EpochTrainer`; ``optimizer`` takes Keras's options
    ``global_clipnorm`` and ``gradient_accumulation_steps``, and ``loss`` may be one of Keras's.
    """

    def build_model(self, run: Run) -> keras.Model:
        """The model to train; by default what ``model`` in the config names."""
        return built(run, "model", keras.Model)

    def build_data(self, run: Run) -> object:
        """The data; by default what ``data`` in the config names.

        Returns:
            What :func:`dlsweep.data.keras.prepare` takes.
        """
        return built(run, "data", object)

    def train(self, model: keras.Model, data: KerasData, epochs: Epochs) -> None:
        """Trains through all epochs that are left.

        Override it for a loop of your own::

            for epoch in epochs:
                for inputs, targets in data.train:
                    ...
                epochs.end({"train/loss": ..., "val/loss": ...})

        Logging, checkpoints, the schedule, early stopping and pruning happen in ``epochs``.

        Args:
            model: Built, and compiled with the config's optimizer and loss.
            data: Batches to train on and to validate with.
            epochs: What is left to do.
        """
        if epochs.are_over:
            return
        model.fit(
            data.train.source,
            validation_data=data.validation.source,
            initial_epoch=epochs.progress.epoch,
            epochs=self.epochs,
            shuffle=False,
            verbose=0,
            callbacks=[_Reporter(epochs)],
        )

    def fit(self, run: Run) -> dict[str, float]:
        """Trains, from the latest checkpoint if there is one, and saves as it goes.

        Returns:
            The metrics of the best epoch.

        Raises:
            ConfigError: If the config cannot work on this machine, or with this data.
            DataError: If the data cannot be used.
            CheckpointError: If the checkpoint is not one of this model and optimizer.
            Diverged: If a loss or the monitored metric becomes NaN or infinite.
        """
        with keras.device(self._device()):
            keras.config.set_dtype_policy(_POLICIES[self.precision])
            model = self.build_model(run)
            data = prepare(self.build_data(run), self.batch_size, self.seed)
            write_atomically(run.dir.path / "data.json", json.dumps(data.record, indent=1))
            _check_fit(model, data.train, self.loss)
            self._compile(model)
            epochs = Epochs(run, self, _KerasState(model, self._schedule(model), data, self.seed))
            self.train(model, data, epochs)
            epochs.finish()
        return epochs.progress.best

    def _compile(self, model: keras.Model) -> None:
        options: dict[str, Any] = {}
        if self.clip_norm is not None:
            options["global_clipnorm"] = self.clip_norm
        if self.accumulate > 1:
            options["gradient_accumulation_steps"] = self.accumulate
        is_classifier = self.loss == "cross_entropy"
        model.compile(
            optimizer=self.optimizer(**options),
            loss=_NAMED_LOSSES[self.loss]() if isinstance(self.loss, str) else self.loss,
            metrics=[keras.metrics.SparseCategoricalAccuracy("accuracy")]
            if is_classifier
            else None,
        )
        model.optimizer.build(model.trainable_variables)

    def _schedule(self, model: keras.Model) -> Scheduler | None:
        scheduler = self.scheduler(model.optimizer) if self.scheduler else None
        mode = getattr(scheduler, "mode", self.mode)
        if mode != self.mode:
            raise ConfigError(
                f"training.scheduler.mode: Received {mode!r}. Expected {self.mode!r}, "
                f"as training.mode says, since it follows {self.monitor}."
            )
        return scheduler

    def _device(self) -> str:
        has_gpu = _backend().use_gpu(self.device != "cpu")
        if self.device == "gpu" and not has_gpu:
            raise ConfigError(
                f"training.device: Received 'gpu', and Keras on {keras.config.backend()} sees none "
                "here.\nExpected 'cpu' or 'auto'. Type  training.device=auto"
            )
        if self.precision == "fp16" and not has_gpu:
            raise ConfigError(
                "training.precision: Received 'fp16' on a CPU, where it is slow and loses small "
                "gradients.\nExpected 'fp32' or 'bf16'. Type  training.precision=bf16"
            )
        return "gpu:0" if has_gpu else "cpu:0"


class _KerasState(State):
    """A compiled model, its schedule, and the random numbers that an epoch begins with."""

    def __init__(
        self, model: keras.Model, scheduler: Scheduler | None, data: KerasData, seed: int
    ) -> None:
        self.model = model
        self.scheduler = scheduler
        self.data = data
        self.seed = seed

    @property
    def learning_rate(self) -> float:
        return _shortest(float(self.model.optimizer.learning_rate))

    def begin_epoch(self, epoch: int) -> None:
        self.data.train.shuffle(epoch)
        keras.utils.set_random_seed(_mixed(self.seed, epoch))
        for number, state in enumerate(_seed_states(self.model), start=1):
            state.assign([_mixed(self.seed, epoch, number), 0])

    def step_scheduler(self, monitored: float) -> None:
        if self.scheduler:
            self.scheduler.step(monitored)

    def save(self, folder: Path, progress: Progress) -> None:
        values = {f"{number:04d}": value.numpy() for number, value in self._variables()}
        np.savez(folder / _VARIABLES, **values)
        state = {"progress": progress.state_dict()}
        if self.scheduler:
            state["scheduler"] = self.scheduler.state_dict()
        (folder / _STATE).write_text(json.dumps(state))

    def restore(self, folder: Path, progress: Progress) -> None:
        try:
            state = json.loads((folder / _STATE).read_text())
            if self.scheduler:
                self.scheduler.load_state_dict(state["scheduler"])
            with np.load(folder / _VARIABLES, allow_pickle=False) as values:
                for number, variable in self._variables():
                    variable.assign(values[f"{number:04d}"])
            progress.load_state_dict(state["progress"])
        except (OSError, KeyError, ValueError) as error:
            raise CheckpointError(
                f"{folder} does not fit this model and optimizer: {error}\n"
                "Train with those it was saved from, or in a new run folder."
            ) from None

    def _variables(self) -> Iterator[tuple[int, Any]]:
        """Those of model and optimizer, numbered; names differ from process to process."""
        return enumerate([*self.model.weights, *self.model.optimizer.variables])


class _Reporter(keras.callbacks.Callback):
    """Begins and ends the epochs of ``model.fit``."""

    async_safe = True  # notes a number; else every batch would wait for its logs

    def __init__(self, epochs: Epochs) -> None:
        super().__init__()
        self._epochs = epochs
        self._batches = 0
        self._diverged: tuple[float, float] | None = None

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002
        self._epochs.begin()
        self._batches = 0

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float]) -> None:
        self._batches = max(self._batches, batch + 1)
        if not math.isfinite(loss := logs.get("loss", 0.0)):
            self._diverged = min((batch + 1, loss), self._diverged or (math.inf, loss))
            self.model.stop_training = True

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float]) -> None:  # noqa: ARG002
        if self._diverged:
            batch, loss = self._diverged
            raise Diverged("train/loss", loss, self._epochs.progress.batches + int(batch))
        self._epochs.progress.batches += self._batches
        self._epochs.end({_metric(name): _shortest(value) for name, value in logs.items()})
        self.model.stop_training = self._epochs.are_over


def _metric(name: str) -> str:
    """Our name of one of Keras's logs."""
    return f"val/{name[4:]}" if name.startswith("val_") else f"train/{name}"


def _shortest(value: Any) -> float:
    """The shortest number that stands for a float32, such as 0.1; others as they are."""
    short = np.float32(value)
    return float(str(short)) if short == value else float(value)


def _backend() -> ModuleType:
    """The module that knows what Keras leaves to its backend."""
    if keras.config.backend() == "tensorflow":
        from dlsweep.trainers import tensorflow

        return tensorflow
    from dlsweep.trainers import torch

    return torch


def _seed_states(model: keras.Model) -> Iterator[Any]:
    """The state of every SeedGenerator in the model, such as those of dropout."""
    weights = {id(weight) for weight in model.weights}
    return (variable for variable in model.variables if id(variable) not in weights)


def _mixed(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1)[0]) >> 1


def _check_fit(model: keras.Model, batches: Batches, loss: object) -> None:
    """Builds the model; raises DataError if the data does not fit it."""
    inputs, targets = batches.spec()
    try:
        outputs = model(inputs)
    except ValueError as error:
        reason = str(error).strip().partition("\n\nArguments received")[0]
        raise DataError(
            f"data: Received inputs of shape {_shapes(inputs)}, which do not fit the model "
            f"{model.name!r}.\nExpected what it takes: {reason}"
        ) from None
    if loss == "mse" and _shapes(outputs) != _shapes(targets):
        raise DataError(
            f"training.loss: Received outputs of shape {_shapes(outputs)} and targets of shape "
            f"{_shapes(targets)}. Expected equal shapes for 'mse'."
        )
    if loss == "cross_entropy" and batches.targets is not None:
        _check_labels(batches.targets, classes=outputs.shape[-1])


def _check_labels(labels: Array, classes: int) -> None:
    if labels.dtype.kind != "i" or not 0 <= labels.min() <= labels.max() < classes:
        raise DataError(
            f"data: Received labels from {labels.min()} to {labels.max()} ({labels.dtype}) for a "
            f"model of {classes} classes. Expected whole numbers from 0 to {classes - 1}."
        )


def _shapes(tensors: Any) -> Any:
    """The shape of each example, without the batch."""
    return keras.tree.map_structure(lambda tensor: list(tensor.shape[1:]), tensors)
