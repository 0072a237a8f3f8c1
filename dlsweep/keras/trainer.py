"""The Keras trainer: ``model.fit`` with bit-exact resume.

A model may be built in any of Keras's ways, and may have its own ``train_step``. For a custom loop,
subclass :class:`KerasTrainer`, override ``train``, and set the class as ``training._target_`` in
the config.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, cast

import keras
import numpy as np

from dlsweep.data.base import Array, Split, as_data, each
from dlsweep.errors import ConfigError
from dlsweep.keras.accumulate import accumulate, count_examples
from dlsweep.keras.batches import Batches, KerasData, one_batch, prepare
from dlsweep.keras.building import build, shapes, symbolic, symbolic_inputs
from dlsweep.keras.export import ENVIRONMENTS, write
from dlsweep.keras.files import FORMATS
from dlsweep.keras.fit import Leave, Reporter
from dlsweep.keras.metrics import R2, MeanAbsoluteError
from dlsweep.keras.param_groups import freeze, grouped, trained_shapes
from dlsweep.keras.schedulers import Scheduler
from dlsweep.keras.state import STATE, KerasState, load_weights, shortest
from dlsweep.keras.units import in_own_units
from dlsweep.machine.imports import hidden
from dlsweep.run.run import Run
from dlsweep.trainers.callbacks import Callback, Callbacks
from dlsweep.trainers.config import built, target_scale
from dlsweep.trainers.epoch_trainer import EpochTrainer
from dlsweep.trainers.epochs import Epochs
from dlsweep.trainers.exporting import ExportSpec, gather
from dlsweep.trainers.model_files import write_model
from dlsweep.trainers.predictions import Outcome
from dlsweep.trainers.saving import MidEpoch

_POLICIES = {"fp32": "float32", "bf16": "mixed_bfloat16", "fp16": "mixed_float16"}
_LOSSES = {
    "cross_entropy": lambda: keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    "mse": keras.losses.MeanSquaredError,
}


def setup(
    seed: int, deterministic: bool = False, threads: int | None = None, debug: bool = False
) -> None:
    """Sets up a trial's process: seeds, deterministic kernels, threads, debugging.

    Args:
        seed: The seed of Python's, NumPy's, Keras's and its backend's random numbers.
        deterministic: Whether to use only deterministic kernels; an operation without one raises.
        threads: The number of CPU threads of an operation; None leaves that to the backend.
        debug: Whether functions run eagerly, and a NaN raises an error that names its operation.

    Raises:
        ConfigError: If the seed is out of range.
    """
    if not 0 <= seed < 2**32:
        raise ConfigError(f"seed: Received {seed}. Expected a whole number from 0 to 2**32 - 1.")
    _backend().setup(seed, deterministic, threads, debug)
    with _tensorflow_only_as_backend():
        keras.utils.set_random_seed(seed)


def _tensorflow_only_as_backend() -> AbstractContextManager[None]:
    """Hides TensorFlow from Keras on another backend: Keras would import it only to seed it.

    The import takes seconds, and the kernels of both frameworks in one process crash some models.
    """
    return nullcontext() if keras.config.backend() == "tensorflow" else hidden("tensorflow")


class KerasTrainer(EpochTrainer):
    """Trains the model and data of the config with Keras.

    The arguments are those of :class:`EpochTrainer`. The optimizer also takes Keras's options, such
    as ``global_clipnorm``; the loss may be one of Keras's; callbacks may be Keras's or
    :class:`dlsweep.trainers.Callback`.
    """

    callback_kinds = (Callback, keras.callbacks.Callback)
    state_file = STATE
    model_kind = keras.Model
    export_environments = ENVIRONMENTS

    @property
    def saves_mid_epoch(self) -> bool:
        """Whether it can save within an epoch; a custom loop saves only at the end."""
        return type(self).train is KerasTrainer.train

    def build_model(self, run: Run) -> keras.Model:
        """Builds the model; by default from ``model`` in the config."""
        return built(run.config, "model", keras.Model)

    def train(self, model: keras.Model, data: KerasData, epochs: Epochs[KerasState]) -> None:
        """Trains the remaining epochs.

        Override it for a custom loop::

            for epoch in epochs:
                for inputs, targets in data.train:
                    ...
                epochs.end({"train/loss": ..., "val/loss": ...})

        ``epochs`` handles logging, checkpoints, the scheduler, early stopping and pruning.

        Args:
            model: The model, built and compiled with the config's optimizer and loss.
            data: Batches for training and validation.
            epochs: The remaining epochs.
        """
        if epochs.are_over:
            return
        mid_epoch = MidEpoch(epochs.run, self.checkpoint_steps, self.checkpoint_seconds)
        reporter = Reporter(epochs, mid_epoch, data.train.steps)
        callbacks = epochs.state.keras_callbacks
        if epochs.progress.steps:
            model.test_on_batch(*next(iter(data.validation)))  # builds the metrics, to be restored
        try:
            model.fit(
                data.train.source,
                validation_data=data.validation.source,
                initial_epoch=epochs.progress.epoch,
                epochs=self.epochs,
                shuffle=False,
                verbose=0,
                callbacks=[*callbacks, reporter],
            )
        except Leave:
            for callback in callbacks:
                callback.on_train_end()
        finally:
            reporter.release()

    def fit(self, run: Run) -> dict[str, float]:
        """Trains by :meth:`train`; see :meth:`EpochTrainer.fit`."""
        with self._placed():
            keras.config.set_dtype_policy(_POLICIES[self.precision])
            data = self._read_data(
                run,
                lambda found: prepare(found, self.batch_size, self.seed, self.loader),
                one_batch,
            )
            self._check_mid_epoch(data)
            model = self.build_model(run)
            build(model, data, self.loss)
            freeze(model, self.parameter_options)
            self._compile(model, data)
            return self._fit(run, model, data)

    def parameter_shapes(self, model: keras.Model, data: object) -> dict[str, list[int]]:
        """Returns the shapes of a model's parameters; none if only the data could build it."""
        known = as_data(data)
        if not model.built and known:
            model(each(known.train.shape, symbolic))
        return trained_shapes(model) if model.built else {}

    def load_model(self, run: Run) -> keras.Model:
        """Loads a run's trained model, with the weights of its best checkpoint.

        A model of standardized targets is wrapped: its outputs are in the targets' own units.
        """
        before = keras.config.dtype_policy()
        keras.config.set_dtype_policy(_POLICIES[self.precision])
        try:
            model = self.build_model(run)
        finally:
            keras.config.set_dtype_policy(before)
        if not model.built:
            model(symbolic_inputs(run))
        load_weights(model, run.checkpoints.need_best().path)
        scale = target_scale(run)
        return in_own_units(model, symbolic_inputs(run), *scale) if scale else model

    def predict(self, model: keras.Model, inputs: Any) -> Any:
        """Returns a model's outputs as arrays, for inputs as arrays."""
        return keras.tree.map_structure(_single, model.predict(inputs, verbose=0))

    def save_model(self, run: Run, path: Path) -> None:
        """Saves the trained model.

        Formats: the whole model (``.keras``), or only its weights (``.weights.h5``).
        """
        write_model(lambda: self.load_model(run), path, FORMATS)

    def export_model(self, model: keras.Model, form: str, spec: ExportSpec, path: Path) -> None:
        """Writes the model as ``savedmodel``, ``litert``, ``onnx`` or ``keras``."""
        write(model, form, spec, path)

    def examples(self, data: object, part: Literal["train", "validation"], most: int) -> Split:
        """Reads examples of a ``tf.data.Dataset`` or a ``PyDataset``."""
        made = prepare(data, self.batch_size, self.seed, self.loader)
        batches: Batches = getattr(made, part)
        to_numpy = keras.ops.convert_to_numpy
        return gather((keras.tree.map_structure(to_numpy, batch) for batch in batches), most)

    def _fit(self, run: Run, model: keras.Model, data: KerasData) -> dict[str, float]:
        callbacks = list(self.callbacks)
        if self.traced is not None:
            callbacks.append(_backend().profiler(run.dir.path / "profile", *self.traced))
        ours = Callbacks([one for one in callbacks if isinstance(one, Callback)])
        others = [one for one in callbacks if not isinstance(one, Callback)]
        schedule = self._schedule(model)
        state = KerasState(model, data, schedule, ours, others, self.seed, self.swa_start)
        epochs = Epochs(run, self, state)
        ours.begin(run, model)
        self.train(model, data, epochs)
        metrics = epochs.progress.best
        if run.stop_reason is None:
            metrics = metrics | self._finish(run, model, data, epochs.progress.epoch)
            epochs.settle()
        ours.on_train_end(metrics)
        return metrics

    def _finish(
        self, run: Run, model: keras.Model, data: KerasData, epoch: int
    ) -> dict[str, float]:
        """Loads the best weights if configured; returns metrics of the test data, if any."""
        best = run.checkpoints.best()
        if best and self.early_stopping.restore_best_weights:
            load_weights(model, best.path)
        self._log_predictions(run, data, epoch, lambda batches: _predict(model, batches))
        if data.test is None:
            return {}
        measured = model.evaluate(data.test.source, verbose=0, return_dict=True)
        tested = {f"test/{name}": shortest(value) for name, value in measured.items()}
        run.log(tested, step=epoch)
        return tested

    def _check_mid_epoch(self, data: KerasData) -> None:
        if (self.checkpoint_steps or self.checkpoint_seconds) and data.train.steps is None:
            raise ConfigError(
                "training.checkpoint_steps, training.checkpoint_seconds: Received one of them with "
                f"Keras on {keras.config.backend()} and batches from "
                f"{type(data.train.source).__qualname__}, where an epoch cannot be resumed in its "
                "middle.\nExpected Keras on tensorflow and arrays as data, or null for both."
            )

    def _compile(self, model: keras.Model, data: KerasData) -> None:
        options: dict[str, Any] = {}
        if self.clip_norm is not None:
            options["global_clipnorm"] = self.clip_norm
        if self.ema_decay is not None:
            options |= {"use_ema": True, "ema_momentum": self.ema_decay}
        loss = _LOSSES[self.loss]() if isinstance(self.loss, str) else self.loss
        if self.replica_count > 1:
            loss = _parallel().WholeBatchLoss(loss)
        optimizer = grouped(self.optimizer(**options), model, self.parameter_options)
        if self.accumulate > 1:
            optimizer = accumulate(optimizer, self.accumulate)
        model.compile(
            optimizer=optimizer,
            loss=loss,
            metrics=self._metrics(data),
        )
        model.optimizer.build(model.trainable_variables)
        if self.accumulate > 1:
            count_examples(model)
        if self.replica_count > 1:
            self._check_step(model)
            _parallel().synchronise(model, data.train.spec())

    def _metrics(self, data: KerasData) -> list[keras.metrics.Metric] | None:
        if self.loss == "cross_entropy":
            return [keras.metrics.SparseCategoricalAccuracy("accuracy")]
        if self.loss != "mse":
            return None
        _, *targets = data.train.spec()
        sizes = shapes(targets)
        metrics = [MeanAbsoluteError(data.target_std)]
        if len(sizes) == 1 and len(sizes[0]) <= 1:
            metrics.append(R2(math.prod(sizes[0])))
        return metrics

    def _schedule(self, model: keras.Model) -> Scheduler | None:
        scheduler = self.scheduler(model.optimizer) if self.scheduler else None
        self._check_scheduler_mode(getattr(scheduler, "mode", self.mode))
        return scheduler

    def _placed(self) -> AbstractContextManager[Any]:
        """Returns the context of the model's device or, with replicas, of the strategy."""
        has_gpu = self.has_gpu
        if (count := self.replica_count) > 1:
            place = _parallel().mirrored(count, has_gpu).scope()
        else:
            place = keras.device("gpu" if has_gpu else "cpu")
        return cast(AbstractContextManager[Any], place)

    def _check_arguments(self) -> None:
        super()._check_arguments()
        if type(self).train is KerasTrainer.train:
            return
        of_keras = [one for one in self.callbacks if isinstance(one, keras.callbacks.Callback)]
        for name, given in {
            "ema_decay": self.ema_decay,
            "swa_start": self.swa_start,
            "profiler": self.traced,
            "accumulate": self.accumulate if self.accumulate > 1 else None,
            "callbacks": of_keras or None,
        }.items():
            if given is not None:
                raise ConfigError(
                    f"training.{name}: Received {given} for a training loop of your own; "
                    f"only model.fit supports that.\nLeave it out, and handle it in "
                    f"{type(self).__qualname__}.train"
                )

    @property
    def has_gpu(self) -> bool:
        """Whether there is a GPU to use; see :class:`EpochTrainer`."""
        found = _backend().use_gpu(self.device != "cpu")
        return self._check_gpu(found, f"Keras on {keras.config.backend()}")

    @property
    def replica_count(self) -> int:
        """The number of devices that train the model; see :class:`EpochTrainer`."""
        count = super().replica_count
        reasons = {
            f"framework.backend={keras.config.backend()}": keras.config.backend() != "tensorflow",
            f"training.accumulate={self.accumulate}": self.accumulate > 1,
            "training.precision=fp16": self.precision == "fp16",
            "a training loop of your own": type(self).train is not KerasTrainer.train,
        }
        if count > 1:
            self._refuse(count, next((what for what, is_so in reasons.items() if is_so), ""))
        return count

    def _check_step(self, model: keras.Model) -> None:
        """Refuses a custom train step: it would sum losses that are not divided by the replicas."""
        if type(model).train_step is not keras.Model.train_step:
            self._refuse(self.replica_count, f"{type(model).__qualname__}.train_step")

    def _refuse(self, count: int, reason: str) -> None:
        if reason:
            raise ConfigError(
                f"training.replicas: Received {count} with {reason}, which MirroredStrategy does "
                "not support here.\nExpected 1. Type  training.replicas=1"
            )


def _backend() -> ModuleType:
    """Returns the module with the backend's own settings."""
    if keras.config.backend() == "tensorflow":
        from dlsweep.keras import tensorflow

        return tensorflow
    from dlsweep.torch import trainer

    return trainer


def _parallel() -> ModuleType:
    """Imports the module for training on several devices, only if there are some."""
    from dlsweep.keras import parallel

    return parallel


def _predict(model: keras.Model, batches: Batches) -> Iterator[Outcome]:
    """Yields predictions for each batch, eagerly: tracing a graph would take longer."""
    for inputs, targets, *_ in batches:
        outputs = keras.ops.cast(model(inputs, training=False), "float32")
        outcome = inputs, targets, outputs
        yield keras.tree.map_structure(keras.ops.convert_to_numpy, outcome)


def _single(array: Array) -> Array:
    """Converts half precision to a type that NumPy has."""
    return array.astype(np.float32) if array.dtype.kind in "fV" else array
