"""The base class of trainers: the arguments that all frameworks share, and their checks."""

from __future__ import annotations

import json
import math
import os
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar, Literal, TypeVar

from omegaconf import DictConfig

from dlsweep.data.base import as_data
from dlsweep.data.loader import Loader
from dlsweep.data.prepared import Counted, Prepared
from dlsweep.errors import ConfigError
from dlsweep.folders.rundir import write_atomically
from dlsweep.machine.devices import THREADS_VARIABLE, Replicas, replica_count
from dlsweep.run.run import Run
from dlsweep.trainers.base import Trainer
from dlsweep.trainers.callbacks import Callback
from dlsweep.trainers.config import (
    Traced,
    built,
    check_labels,
    check_least,
    check_one_of,
    checked_callbacks,
    fit_model_to_data,
    plain,
    traced_batches,
)
from dlsweep.trainers.early_stopping import EarlyStopping, Mode
from dlsweep.trainers.param_groups import Options
from dlsweep.trainers.predictions import Outcome, log_predictions
from dlsweep.trainers.starting_points import StartingPoint

B = TypeVar("B", bound=Counted)

_LOADER = Loader()
_NO_EARLY_STOPPING = EarlyStopping()


@dataclass(eq=False, repr=False)
class EpochTrainer(Trainer):
    """A trainer that trains in epochs.

    Attributes:
        callback_kinds: The allowed types of callbacks.
        state_file: The name of the framework's file in a checkpoint.
        strategies: The allowed values of ``strategy``.
        forks: Whether each replica is trained in a process of its own.

    Args:
        optimizer: Builds the optimizer.
        scheduler: Builds the learning rate scheduler, which steps at the end of each epoch.
        epochs: The number of epochs.
        batch_size: The number of examples in a batch.
        loader: How to read data that is not in memory.
        loss: The loss of outputs and targets, averaged over the batch. ``cross_entropy`` also logs
            the accuracy.
        device: ``auto`` uses a GPU if there is one.
        replicas: The number of devices that train the model; each takes its share of every batch.
            ``auto`` is one for each GPU that the launcher gave the trial.
        strategy: ``data_parallel``: each device holds the whole model (PyTorch's
            DistributedDataParallel, Keras's MirroredStrategy); ``fsdp``: a part of it (PyTorch's
            fully sharded data parallel).
        precision: The precision of the forward pass; ``fp16`` uses loss scaling.
        accumulate: The number of batches whose gradients make one step.
        clip_norm: The largest norm of all gradients together.
        ema_decay: The decay of an exponential moving average of the weights, updated at each step.
            The average is evaluated and saved in place of the weights.
        swa_start: The first epoch of stochastic weight averaging: from its end on, the mean of the
            weights at the ends of epochs, including batch norm's statistics, is evaluated and
            saved.
        monitor: The metric that defines the best epoch.
        mode: Whether a higher (``max``) or a lower (``min``) value is better.
        early_stopping: When to stop early.
        callbacks: The user's own callbacks.
        profiler: The first and the last batch to trace, counted from 1 through all epochs; ``on``
            means 10 to 20.
        overfit_batch: Whether to train and validate on one batch only: a model that cannot learn
            it has an error.
        evaluate_test: Whether to evaluate the test data at the end, if there is some.
        checkpoint_every: Epochs between checkpoints; a new best and the last are always saved.
        checkpoint_steps: Optimizer steps between checkpoints within an epoch.
        checkpoint_seconds: Seconds between checkpoints within an epoch, instead or in addition.
        param_groups: Options of parameters by name: for each group a pattern to ``match``, and
            ``lr``, ``weight_decay`` or both; see :class:`dlsweep.trainers.param_groups.Options`.
        freeze: The patterns of parameters that are not trained.
        seed: The seed of the order of the training examples.
        initial_weights: The folder of a run, whose best checkpoint counts, or of a checkpoint: a
            new run starts with its weights. A parameter of another name or shape stays as
            initialised, and is said.
        resume_from: The folder of a checkpoint: a new run takes over model, optimizer, schedule,
            random numbers and count of epochs, and goes on with the next one. Its best epoch is
            the best of its own.

    Raises:
        ConfigError: If an argument is out of its range.
    """

    callback_kinds: ClassVar[tuple[type, ...]] = (Callback,)
    state_file: ClassVar[str]
    strategies: ClassVar[tuple[str, ...]] = ("data_parallel",)
    forks: ClassVar[bool] = False

    optimizer: Callable[..., Any]
    scheduler: Callable[..., Any] | None = None
    epochs: int = 5
    batch_size: int = 128
    loader: Loader = _LOADER
    loss: Literal["cross_entropy", "mse"] | Callable[..., Any] = "cross_entropy"
    device: Literal["auto", "cpu", "gpu"] = "auto"
    replicas: Replicas = "auto"
    strategy: Literal["data_parallel", "fsdp"] = "data_parallel"
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    accumulate: int = 1
    clip_norm: float | None = None
    ema_decay: float | None = None
    swa_start: int | None = None
    monitor: str = "val/accuracy"
    mode: Mode = "max"
    early_stopping: EarlyStopping = _NO_EARLY_STOPPING
    callbacks: Sequence[Any] = ()
    profiler: Traced = None
    overfit_batch: bool = False
    evaluate_test: bool = True
    checkpoint_every: int = 1
    checkpoint_steps: int | None = None
    checkpoint_seconds: float | None = None
    param_groups: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    freeze: Sequence[str] = ()
    seed: int = 0
    initial_weights: str | os.PathLike[str] | None = None
    resume_from: str | os.PathLike[str] | None = None

    def __post_init__(self) -> None:
        self.callbacks = checked_callbacks(self.callbacks, *self.callback_kinds)
        self._check_arguments()

    @abstractmethod
    def build_model(self, run: Run) -> Any:
        """The model to train; by default what ``model`` in the config names."""

    @abstractmethod
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

    @property
    def starting_point(self) -> StartingPoint | None:
        """What a new run starts from, if not from scratch."""
        given = self.resume_from or self.initial_weights
        return StartingPoint(given, self.state_file, not self.resume_from) if given else None

    @classmethod
    def process_count(cls, arguments: Mapping[str, Any]) -> int:
        """One a replica, if this trainer forks.

        Raises:
            DeviceError: If the trial has fewer GPUs.
        """
        replicas, device = arguments.get("replicas", "auto"), arguments.get("device", "auto")
        return replica_count(replicas, device != "cpu") if cls.forks else 1

    @property
    def replica_count(self) -> int:
        """On how many devices this trial trains its model.

        Raises:
            DeviceError: If it has fewer.
            ConfigError: If not each of them gets an example of a batch, or a process that it needs.
        """
        count = replica_count(self.replicas, self.device != "cpu")
        if count > self.batch_size:
            raise ConfigError(
                f"training.replicas: Received {count}, and a batch of {self.batch_size} examples.\n"
                f"Expected at least one example for each. Type  training.batch_size={count}"
            )
        if count > 1 and self.forks and THREADS_VARIABLE not in os.environ:
            raise ConfigError(
                f"training.replicas: Received {count}, each of which needs a process of its own.\n"
                "Expected 1 in this one. Type  launcher=local"
            )
        return count

    @property
    @abstractmethod
    def has_gpu(self) -> bool:
        """Whether there is a GPU to use.

        Raises:
            ConfigError: If there is none, and what is asked for needs one.
        """

    def preflight(self) -> None:
        """Sees that there is what a new run is to train on, and what it is to start from."""
        _ = self.replica_count
        _ = self.has_gpu
        if self.starting_point:
            self.starting_point.check()

    def check_data(self, data: object) -> None:
        """Raises DataError if the targets are values and the loss is one of classes."""
        if self.is_classifier:
            check_labels(as_data(data))

    def check_model(self, config: DictConfig, data: object) -> None:
        """Raises ConfigError if a pattern matches no parameter of the config's model."""
        if self.parameter_options and (names := list(self.weight_shapes(config, data))):
            self.parameter_options.check(names)

    def weight_shapes(self, config: DictConfig, data: object) -> Mapping[str, list[int]]:
        """Returns the shape of each parameter; none if a subclass builds the model."""
        if not self._builds_by_config:
            return {}
        return self.parameter_shapes(built(config, "model", self.model_kind or object), data)

    @abstractmethod
    def parameter_shapes(self, model: Any, data: object) -> Mapping[str, list[int]]:
        """Returns the shapes of a model's parameters by name.

        Args:
            model: The model.
            data: What ``data`` in the config builds.
        """

    @cached_property
    def parameter_options(self) -> Options:
        """The parameters with options of their own, and the frozen ones."""
        return Options(plain(self.param_groups), plain(self.freeze))

    @property
    def _builds_by_config(self) -> bool:
        """Whether the model is what the config names, not what a subclass builds."""
        owner = next(one for one in type(self).__mro__ if "model_kind" in vars(one))
        return type(self).build_model is vars(owner).get("build_model")

    def build_data(self, run: Run) -> object:
        """The data; by default what ``data`` in the config names.

        Returns:
            What the framework's ``prepare`` takes, :func:`dlsweep.torch.batches.prepare` or
            :func:`dlsweep.keras.batches.prepare`.
        """
        return built(run.config, "data", object)

    def _read_data(
        self,
        run: Run,
        prepare: Callable[[object], Prepared[B]],
        one_batch: Callable[[Prepared[B]], Prepared[B]],
    ) -> Prepared[B]:
        """The data in batches, noted down in the run's folder; the config's model fits it then."""
        found = self.build_data(run)
        found = as_data(found) or found
        fit_model_to_data(run.config, found)
        data = prepare(found)
        self.check_data(found)
        if not run.ranks.rank:
            write_atomically(run.dir.path / "data.json", json.dumps(data.record, indent=1))
        if not self.evaluate_test:
            data = replace(data, test=None)
        return one_batch(data) if self.overfit_batch else data

    @property
    def traced(self) -> list[int] | None:
        """The first and the last batch to trace, if any."""
        return traced_batches(self.profiler)

    @property
    def saves_mid_epoch(self) -> bool:
        """Whether it can save before an epoch's end."""
        return True

    @property
    def is_classifier(self) -> bool:
        """Whether the model's outputs are known to be one logit a class."""
        return self.loss == "cross_entropy"

    def _log_predictions(
        self,
        run: Run,
        data: Prepared[B],
        epoch: int,
        predict: Callable[[B], Iterable[Outcome]],
    ) -> None:
        """Logs where a classifier errs: on the test data, if there is some."""
        if self.is_classifier:
            name, part = ("val", data.validation) if data.test is None else ("test", data.test)
            log_predictions(run, name, predict(part), epoch)

    def _check_gpu(self, has_gpu: bool, framework: str) -> bool:
        """Whether there is a GPU; raises ConfigError if what is asked for needs it."""
        if self.device == "gpu" and not has_gpu:
            raise ConfigError(
                f"training.device: Received 'gpu', and {framework} sees none here.\n"
                "Expected 'cpu' or 'auto'. Type  training.device=auto"
            )
        if self.precision == "fp16" and not has_gpu:
            raise ConfigError(
                "training.precision: Received 'fp16' on a CPU, where it is slow and loses small "
                "gradients.\nExpected 'fp32' or 'bf16'. Type  training.precision=bf16"
            )
        return has_gpu

    def _check_scheduler_mode(self, mode: str) -> None:
        """Raises ConfigError if a scheduler takes another mode of the monitored metric."""
        if mode != self.mode:
            raise ConfigError(
                f"training.scheduler.mode: Received {mode!r}. Expected {self.mode!r}, "
                f"as training.mode says, since it follows {self.monitor}."
            )

    def _check_arguments(self) -> None:
        _ = self.traced
        check_one_of("device", self.device, ("auto", "cpu", "gpu"))
        check_one_of("precision", self.precision, ("fp32", "bf16", "fp16"))
        check_one_of("strategy", self.strategy, self.strategies)
        check_one_of("mode", self.mode, ("min", "max"))
        check_least("epochs", self.epochs, 1)
        check_least("batch_size", self.batch_size, 1)
        check_least("replicas", 1 if self.replicas == "auto" else self.replicas, 1)
        check_least("accumulate", self.accumulate, 1)
        check_least("checkpoint_every", self.checkpoint_every, 1)
        check_least("checkpoint_steps", self.checkpoint_steps or 1, 1)
        if (self.checkpoint_steps or self.checkpoint_seconds) and not self.saves_mid_epoch:
            raise ConfigError(
                "training.checkpoint_steps, training.checkpoint_seconds: "
                f"{type(self).__qualname__} saves at an epoch's end only. Expected null for both."
            )
        _ = self.parameter_options
        check_least("seed", self.seed, 0)
        if self.clip_norm is not None and not 0 < self.clip_norm < math.inf:
            raise ConfigError(
                f"training.clip_norm: Received {self.clip_norm}. Expected more than 0."
            )
        if self.ema_decay is not None and not 0 < self.ema_decay < 1:
            raise ConfigError(
                f"training.ema_decay: Received {self.ema_decay}. "
                "Expected between 0 and 1, as 0.999."
            )
        self._check_swa_start()
        if self.initial_weights and self.resume_from:
            raise ConfigError(
                "training.initial_weights, training.resume_from: Received both. Expected one: a "
                "checkpoint to resume from has weights."
            )
        if not callable(self.loss):
            check_one_of("loss", self.loss, ("cross_entropy", "mse"))

    def _check_swa_start(self) -> None:
        if self.swa_start is None:
            return
        if not 1 <= self.swa_start <= self.epochs:
            raise ConfigError(
                f"training.swa_start: Received {self.swa_start}. "
                f"Expected an epoch from 1 to {self.epochs}, the last."
            )
        if self.ema_decay is not None:
            raise ConfigError(
                "training.swa_start, training.ema_decay: Received both. Expected one average."
            )
